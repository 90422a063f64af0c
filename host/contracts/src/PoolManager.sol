// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Pool} from "./Pool.sol";

/// @notice The part of the deposit contract that the manager calls.
interface IDepositContract {
    function deposit(
        bytes calldata pubkey,
        bytes calldata withdrawal_credentials,
        bytes calldata signature,
        bytes32 deposit_data_root
    ) external payable;
}

/// @title A staking pool manager that speaks Postern's `documents` contract profile
/// @notice Collects stake. Every 32 ETH become a pool, for which the DAO makes a validator key; the leader hands the
/// finished deposit in, and the manager pays it into the real deposit contract.
/// @dev The leader has no secret power: it chooses when to call, while the deposit contract checks the data's root and
/// this contract checks that the stake can only come back to the pool the deposit is for.
contract PoolManager {
    /// @dev SSV's cluster tuple. Its layout decides the selector of `initiatePoolDeposit` (0xab175e06).
    struct Cluster {
        uint32 validatorCount;
        uint64 networkFeeIndex;
        uint64 index;
        bool active;
        uint256 balance;
    }

    /// @notice Where a pool is in its life. It only ever moves downwards in this list.
    enum Status {
        None,
        Ready,
        Deposited,
        ExitRequested,
        Exited
    }

    struct PoolRecord {
        address pool;
        Status status;
        bytes publicKey;
    }

    /// @notice Stake came in. `unpooled` is what waits for the next pool to be full.
    event Staked(address indexed staker, uint256 amount, uint256 unpooled);
    /// @notice A pool is full: the operators are asked for a validator key and a signed deposit.
    event PoolDepositRequested(uint32 poolId);
    /// @notice The leader handed in a pool's deposit.
    event PoolDepositInitiated(uint32 poolId);
    /// @notice The deposit contract took a pool's deposit.
    event PoolDeposited(uint32 poolId);
    /// @notice What the leader said about the validator's operators, so that everybody can compare it with their own.
    event PoolOperators(uint32 poolId, uint64[] operatorIds, bytes32 registrationHash);
    /// @notice The guardians are asked to release a pool's presigned exit.
    event PoolExitRequested(uint32 poolId);
    /// @notice The leader reported that a pool's validator has left.
    event PoolExited(uint32 poolId);
    event LeaderChanged(address indexed previous, address indexed current);
    event PoolSwept(uint32 indexed poolId, uint256 amount);

    error OnlyOwner(address caller);
    error OnlyLeader(address caller);
    error ZeroAddress();
    error NothingStaked();
    error TooManyPools();
    error UnknownPool(uint32 poolId);
    error UnknownPoolAddress(address pool);
    error WrongStatus(uint32 poolId, Status expected, Status actual);
    error WithdrawalCredentialsMalformed(bytes withdrawalCredentials);
    error PublicKeyLength(uint256 length);
    error PublicKeyAlreadyUsed(bytes publicKey);
    error TransferFailed();

    /// @notice The stake of one validator.
    uint256 public constant POOL_CAPACITY = 32 ether;

    address public immutable depositContract;
    address public immutable owner;

    /// @notice The member whose host may hand in deposits and reports.
    address public leader;
    /// @notice How many pools were made; ids run from 1 to this.
    uint32 public poolCount;
    /// @notice Stake that does not fill a pool yet, in wei.
    uint256 public unpooled;

    mapping(uint32 poolId => PoolRecord) private pools;
    mapping(address pool => uint32 poolId) private poolIdOf;
    mapping(bytes32 publicKeyHash => bool) private publicKeyUsed;

    modifier onlyOwner() {
        if (msg.sender != owner) revert OnlyOwner(msg.sender);
        _;
    }

    modifier onlyLeader() {
        if (msg.sender != leader) revert OnlyLeader(msg.sender);
        _;
    }

    constructor(address depositContract_, address leader_) {
        if (depositContract_ == address(0) || leader_ == address(0)) revert ZeroAddress();
        depositContract = depositContract_;
        leader = leader_;
        owner = msg.sender;
        emit LeaderChanged(address(0), leader_);
    }

    /// @dev Only a pool pays the manager directly, when it is swept.
    receive() external payable {
        if (poolIdOf[msg.sender] == 0) revert UnknownPoolAddress(msg.sender);
    }

    /// @notice Adds stake. Each time 32 ETH are together a pool is made, so one call can make several.
    function stake() external payable {
        if (msg.value == 0) revert NothingStaked();
        uint256 waiting = unpooled + msg.value;
        while (waiting >= POOL_CAPACITY) {
            waiting -= POOL_CAPACITY;
            makePool();
        }
        unpooled = waiting;
        emit Staked(msg.sender, msg.value, waiting);
    }

    /// @notice Deposits a pool's 32 ETH for the validator that its operators made.
    /// @param depositDataRoot SSZ root of the deposit data; the deposit contract recomputes it.
    /// @param publicKey the validator's public key, never used before.
    /// @param signature the deposit's proof of possession.
    /// @param withdrawalCredentials 0x01 (or 0x02), eleven zero bytes, the pool's address. **They say which pool is
    /// meant**: never "the first one that is ready".
    /// @param operatorIds the operators that hold the key, ascending.
    /// @param shares SSV's encrypted key shares.
    /// @param cluster SSV's snapshot of the operators' cluster.
    /// @param feeAmount what is to be paid to the operators.
    function initiatePoolDeposit(
        bytes32 depositDataRoot,
        bytes calldata publicKey,
        bytes calldata signature,
        bytes calldata withdrawalCredentials,
        uint64[] calldata operatorIds,
        bytes calldata shares,
        Cluster calldata cluster,
        uint256 feeAmount
    ) external onlyLeader {
        uint32 poolId = reserve(publicKey, withdrawalCredentials);
        emit PoolDepositInitiated(poolId);
        // There is no SSV network behind this manager: what would be handed to it is committed to in an event.
        emit PoolOperators(poolId, operatorIds, keccak256(abi.encode(operatorIds, shares, cluster, feeAmount)));
        IDepositContract(depositContract).deposit{value: POOL_CAPACITY}(
            publicKey, withdrawalCredentials, signature, depositDataRoot
        );
        emit PoolDeposited(poolId);
    }

    /// @notice Asks the DAO to bring a pool's validator out.
    function requestPoolExit(uint32 poolId) external onlyOwner {
        advance(poolId, Status.Deposited, Status.ExitRequested);
        emit PoolExitRequested(poolId);
    }

    /// @notice Reports that a pool's validator has left, whether that was asked for here or not.
    function reportPoolExited(uint32 poolId) external onlyLeader {
        PoolRecord storage record = known(poolId);
        if (record.status != Status.Deposited && record.status != Status.ExitRequested) {
            revert WrongStatus(poolId, Status.ExitRequested, record.status);
        }
        record.status = Status.Exited;
        emit PoolExited(poolId);
    }

    /// @notice Brings what a pool received to the owner, who settles with the stakers.
    function sweepPool(uint32 poolId) external onlyOwner returns (uint256 amount) {
        amount = Pool(payable(known(poolId).pool)).sweep();
        emit PoolSwept(poolId, amount);
        (bool sent,) = owner.call{value: amount}("");
        if (!sent) revert TransferFailed();
    }

    /// @notice Names another leader.
    function setLeader(address newLeader) external onlyOwner {
        if (newLeader == address(0)) revert ZeroAddress();
        emit LeaderChanged(leader, newLeader);
        leader = newLeader;
    }

    /// @notice The address of a pool, also of one that does not exist yet: it follows from the id.
    function getPoolAddress(uint32 poolId) public view returns (address) {
        bytes32 digest = keccak256(
            abi.encodePacked(
                bytes1(0xff), address(this), bytes32(uint256(poolId)), keccak256(type(Pool).creationCode)
            )
        );
        return address(uint160(uint256(digest)));
    }

    /// @notice A pool's address, status and (once deposited) validator public key. All zero when there is none.
    function getPool(uint32 poolId) external view returns (address pool, uint8 status, bytes memory publicKey) {
        PoolRecord storage record = pools[poolId];
        return (record.pool, uint8(record.status), record.publicKey);
    }

    function makePool() private {
        if (poolCount == type(uint32).max) revert TooManyPools();
        uint32 poolId = ++poolCount;
        address pool = address(new Pool{salt: bytes32(uint256(poolId))}());
        pools[poolId].pool = pool;
        pools[poolId].status = Status.Ready;
        poolIdOf[pool] = poolId;
        emit PoolDepositRequested(poolId);
    }

    /// @dev Finds the pool that the credentials name and binds the public key to it, before any ether moves.
    function reserve(bytes calldata publicKey, bytes calldata withdrawalCredentials) private returns (uint32 poolId) {
        poolId = poolIdOf[poolAddressIn(withdrawalCredentials)];
        if (poolId == 0) revert UnknownPoolAddress(poolAddressIn(withdrawalCredentials));
        advance(poolId, Status.Ready, Status.Deposited);

        if (publicKey.length != 48) revert PublicKeyLength(publicKey.length);
        bytes32 publicKeyHash = keccak256(publicKey);
        if (publicKeyUsed[publicKeyHash]) revert PublicKeyAlreadyUsed(publicKey);
        publicKeyUsed[publicKeyHash] = true;
        pools[poolId].publicKey = publicKey;
    }

    function poolAddressIn(bytes calldata credentials) private pure returns (address) {
        if (
            credentials.length != 32 || (credentials[0] != 0x01 && credentials[0] != 0x02)
                || bytes11(credentials[1:12]) != bytes11(0)
        ) revert WithdrawalCredentialsMalformed(credentials);
        return address(bytes20(credentials[12:32]));
    }

    function known(uint32 poolId) private view returns (PoolRecord storage record) {
        record = pools[poolId];
        if (record.status == Status.None) revert UnknownPool(poolId);
    }

    function advance(uint32 poolId, Status expected, Status next) private {
        PoolRecord storage record = known(poolId);
        if (record.status != expected) revert WrongStatus(poolId, expected, record.status);
        record.status = next;
    }
}
