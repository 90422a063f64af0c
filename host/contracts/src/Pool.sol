// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title One pool: the owner of one validator's withdrawal credentials
/// @notice Rewards and the returned stake arrive here. Only the manager that made this pool moves them, to stakers.
/// @dev No constructor arguments: the creation code is the same for every pool, so a pool's CREATE2 address follows
/// from the manager's address and the pool id alone. A pool can never be replaced, so this is all a validator's
/// withdrawal address will ever be able to do.
contract Pool {
    /// @dev The predeploy of EIP-7002. It accepts requests for a validator only from its withdrawal address.
    address private constant WITHDRAWAL_REQUESTS = 0x00000961Ef480Eb55e80D19ad83579A64c007002;

    /// @notice The manager that made this pool.
    address public immutable manager;

    /// @notice Ether came in by a transaction (withdrawals of the beacon chain credit the balance without a call).
    event Received(address indexed from, uint256 amount);

    error OnlyManager(address caller);
    error NoWithdrawalRequests();
    error FeeAboveMaximum(uint256 fee, uint256 maximum);
    error RequestFailed();
    error TransferFailed();

    modifier onlyManager() {
        if (msg.sender != manager) revert OnlyManager(msg.sender);
        _;
    }

    constructor() {
        manager = msg.sender;
    }

    receive() external payable {
        emit Received(msg.sender, msg.value);
    }

    /// @notice Asks the beacon chain to bring this pool's validator out. The ether sent along is the most that the
    /// request may cost; what it does not cost goes to `surplusTo`.
    /// @dev Only the manager may call it. The fee never comes out of the pool's own balance, which is the stakers'.
    function requestExit(bytes calldata publicKey, address payable surplusTo)
        external
        payable
        onlyManager
        returns (uint256 fee)
    {
        // A call to an address without code succeeds and swallows the ether, hence the exact length.
        (bool known, bytes memory answer) = WITHDRAWAL_REQUESTS.staticcall("");
        if (!known || answer.length != 32) revert NoWithdrawalRequests();
        fee = abi.decode(answer, (uint256));
        if (fee > msg.value) revert FeeAboveMaximum(fee, msg.value);
        // An amount of zero is a full exit.
        (bool requested,) = WITHDRAWAL_REQUESTS.call{value: fee}(abi.encodePacked(publicKey, uint64(0)));
        if (!requested) revert RequestFailed();
        send(surplusTo, msg.value - fee);
    }

    /// @notice Pays a staker its part.
    /// @dev Only the manager may call it.
    function pay(address payable to, uint256 amount) external onlyManager {
        send(to, amount);
    }

    function send(address payable to, uint256 amount) private {
        if (amount == 0) return;
        (bool sent,) = to.call{value: amount}("");
        if (!sent) revert TransferFailed();
    }
}
