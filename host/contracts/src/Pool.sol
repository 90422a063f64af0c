// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title One pool: the owner of one validator's withdrawal credentials
/// @notice Rewards and the returned stake arrive here. They can only go back to the manager that made this pool.
/// @dev No constructor arguments: the creation code is the same for every pool, so a pool's CREATE2 address follows
/// from the manager's address and the pool id alone.
contract Pool {
    /// @notice The manager that made this pool.
    address public immutable manager;

    /// @notice Ether came in by a transaction (withdrawals of the beacon chain credit the balance without a call).
    event Received(address indexed from, uint256 amount);

    error OnlyManager(address caller);
    error TransferFailed();

    constructor() {
        manager = msg.sender;
    }

    receive() external payable {
        emit Received(msg.sender, msg.value);
    }

    /// @notice Sends everything this pool holds to its manager.
    /// @return amount how much that was, in wei.
    function sweep() external returns (uint256 amount) {
        if (msg.sender != manager) revert OnlyManager(msg.sender);
        amount = address(this).balance;
        (bool sent,) = manager.call{value: amount}("");
        if (!sent) revert TransferFailed();
    }
}
