// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Council} from "./Council.sol";
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
/// @notice Collects stake. Every 32 ETH become a pool, for which the DAO's enclaves make a validator key. The deposit is
/// made for a key only with their proof, and whatever comes back is the stakers', in proportion to what they staked.
/// @dev Whoever calls a function gains no right by it. What is decided by the enclaves carries their proof, and the
/// governor can bring validators out but can move no ether.
contract PoolManager is Council {
    /// @notice Where a pool is in its life. A pool is refunded instead of deposited, never both.
    enum Status {
        None,
        Ready,
        Deposited,
        ExitRequested,
        Refunded
    }

    /// @notice How many blocks pass until anybody may trigger an exit that was requested, take back the stake of a pool
    /// without a validator, or execute a recovery.
    struct Delays {
        uint64 exit;
        uint64 refund;
        uint64 recovery;
    }

    struct PoolRecord {
        address pool;
        Status status;
        /// @dev Which key of this pool may be deposited; the enclaves count the keys they have given up.
        uint16 attempt;
        /// @dev The block in which the pool became full.
        uint64 readyAt;
        /// @dev The block of the first request to exit.
        uint64 exitRequestedAt;
        /// @dev What the stakers have claimed so far.
        uint256 paid;
        bytes publicKey;
    }

    /// @notice Stake came in. `unpooled` is what waits for the next pool to be full.
    event Staked(address indexed staker, uint256 amount, uint256 unpooled);
    /// @notice How much of what a staker brought went into which pool.
    event Contributed(uint32 indexed poolId, address indexed staker, uint256 amount);
    /// @notice Stake that had not filled a pool went back.
    event Unstaked(address indexed staker, uint256 amount, uint256 unpooled);
    /// @notice A pool is full: the operators are asked for a validator key and a signed deposit.
    event PoolDepositRequested(uint32 poolId);
    /// @notice The enclaves have given up a pool's key and will make another one.
    event AttemptRaised(uint32 indexed poolId, uint16 attempt);
    /// @notice A pool's deposit was handed in.
    event PoolDepositInitiated(uint32 poolId);
    /// @notice What the enclaves have signed for, and the bitmap of those that did.
    event DepositProven(
        uint32 indexed poolId, uint16 attempt, bytes publicKey, bytes32 depositDataRoot, bytes32 signers
    );
    /// @notice The deposit contract took a pool's deposit.
    event PoolDeposited(uint32 poolId);
    /// @notice A pool got no validator in time; its stakers may claim what they contributed.
    event PoolRefunded(uint32 indexed poolId);
    /// @notice The guardians are asked to release a pool's presigned exit.
    event PoolExitRequested(uint32 poolId);
    event PoolExitReason(uint32 indexed poolId, string reason);
    /// @notice The beacon chain was asked to bring a pool's validator out (EIP-7002). It may ignore the request.
    event ExitTriggered(uint32 indexed poolId, uint256 fee);
    /// @notice The enclaves say that a pool's validator has left. Nothing depends on it.
    event PoolExited(uint32 poolId);
    event Claimed(uint32 indexed poolId, address indexed staker, uint256 amount);
    event GovernorProposed(address indexed proposed);
    event GovernorChanged(address indexed previous, address indexed current);

    error RecoveryTooSoon(uint64 refund, uint64 recovery);
    error DelayTooLong(uint64 most);
    error RecoveryPending(uint32 number);
    error OnlyGovernor(address caller);
    error ZeroAddress();
    error ZeroAmount();
    error UnstakeAboveContribution(uint256 contribution);
    error WrongStatus(uint32 poolId, Status actual);
    error PublicKeyLength(uint256 length);
    error SignatureLength(uint256 length);
    error PublicKeyAlreadyUsed(bytes publicKey);
    error ExitNotRequested(uint32 poolId);
    error NothingToClaim(uint32 poolId, address staker);
    error TransferFailed();

    /// @dev In blocks: more than a hundred years.
    uint64 private constant MAX_DELAY = type(uint32).max;

    /// @notice The stake of one validator.
    uint256 public constant POOL_CAPACITY = 32 ether;
    /// @dev 32 ETH in gwei, as SSZ writes a number: eight bytes, the lowest first.
    bytes8 private constant AMOUNT = 0x0040597307000000;

    bytes32 private constant DEPOSIT =
        keccak256("Deposit(uint64 epoch,uint32 pool,uint16 attempt,bytes32 depositDataRoot)");
    bytes32 private constant RAISE_ATTEMPT = keccak256("RaiseAttempt(uint64 epoch,uint32 pool,uint16 attempt)");
    bytes32 private constant TRIGGER_EXIT = keccak256("TriggerExit(uint64 epoch,uint32 pool)");
    bytes32 private constant REQUEST_EXITS = keccak256("RequestExits(uint64 epoch,uint32[] pools,string reason)");
    bytes32 private constant POOL_EXITED = keccak256("PoolExited(uint64 epoch,uint32 pool)");

    address public immutable depositContract;
    /// @notice How many blocks after the first request anybody may trigger an exit.
    uint64 public immutable exitDelay;
    /// @notice How many blocks after a pool was full anybody may have it refunded.
    uint64 public immutable refundDelay;

    /// @notice Who may ask for exits, besides the wallets.
    address public governor;
    /// @notice Who becomes governor by accepting it; zero if nobody is proposed.
    address public pendingGovernor;
    /// @notice How many pools were made; ids run from 1 to this.
    uint32 public poolCount;
    /// @notice Stake that does not fill a pool yet, in wei. It counts as contributed to pool `poolCount + 1`.
    uint256 public unpooled;

    mapping(uint32 poolId => PoolRecord) private pools;
    mapping(uint32 poolId => mapping(address staker => uint256)) private contributions;
    mapping(uint32 poolId => mapping(address staker => uint256)) private claimed;
    mapping(bytes32 publicKeyHash => bool) private publicKeyUsed;

    modifier onlyGovernor() {
        if (msg.sender != governor) revert OnlyGovernor(msg.sender);
        _;
    }

    constructor(address depositContract_, address governor_, address[] memory wallets_, Delays memory delays)
        Council(wallets_, delays.recovery)
    {
        if (depositContract_ == address(0) || governor_ == address(0)) revert ZeroAddress();
        if (delays.exit == 0 || delays.refund == 0) revert ZeroDelay();
        // No sum with a block number may overflow: that would stop refunds and recoveries for ever.
        if (delays.exit > MAX_DELAY || delays.refund > MAX_DELAY || delays.recovery > MAX_DELAY) {
            revert DelayTooLong(MAX_DELAY);
        }
        // Whoever does not like the members that a recovery puts in force has to be out before. A pool that was full
        // just before the proposal may be refunded after one such delay; its stakers have another one to leave.
        if (delays.recovery < 2 * delays.refund) revert RecoveryTooSoon(delays.refund, delays.recovery);
        depositContract = depositContract_;
        exitDelay = delays.exit;
        refundDelay = delays.refund;
        governor = governor_;
        emit GovernorChanged(address(0), governor_);
    }

    /// @notice Adds stake. Each time 32 ETH are together a pool is made, so one call can make several.
    /// @dev Anybody may call it once the DAO is founded and while no recovery waits: whoever filled a pool then would
    /// keep those in who want to be out before the recovery is executed.
    function stake() external payable {
        if (epoch == 0) revert NotFounded();
        if (pendingRecovery.number != 0) revert RecoveryPending(pendingRecovery.number);
        if (msg.value == 0) revert ZeroAmount();
        uint256 left = msg.value;
        while (left != 0) {
            uint32 poolId = poolCount + 1;
            uint256 room = POOL_CAPACITY - unpooled;
            uint256 part = left < room ? left : room;
            left -= part;
            unpooled += part;
            contributions[poolId][msg.sender] += part;
            emit Contributed(poolId, msg.sender, part);
            if (part == room) makePool(poolId);
        }
        emit Staked(msg.sender, msg.value, unpooled);
    }

    /// @notice Takes back stake that has not filled a pool yet.
    /// @dev Whoever contributed it may call it.
    function unstake(uint256 amount) external {
        if (amount == 0) revert ZeroAmount();
        uint256 contribution = contributions[poolCount + 1][msg.sender];
        if (amount > contribution) revert UnstakeAboveContribution(contribution);
        contributions[poolCount + 1][msg.sender] = contribution - amount;
        unpooled -= amount;
        emit Unstaked(msg.sender, amount, unpooled);
        send(payable(msg.sender), amount);
    }

    /// @notice Deposits a pool's 32 ETH for the validator that the enclaves made.
    /// @dev Anybody may call it with the enclave quorum's proof of Deposit. The credentials and the amount are never the
    /// caller's: the root that the enclaves sign is computed here. It covers the deposit's signature, because the beacon
    /// chain drops a deposit with a wrong one and its ether is lost.
    function depositPool(uint32 poolId, bytes calldata publicKey, bytes calldata signature, bytes calldata proof)
        external
    {
        PoolRecord storage record = inStatus(poolId, Status.Ready);
        if (publicKey.length != 48) revert PublicKeyLength(publicKey.length);
        if (signature.length != 96) revert SignatureLength(signature.length);
        if (publicKeyUsed[keccak256(publicKey)]) revert PublicKeyAlreadyUsed(publicKey);

        bytes memory credentials = abi.encodePacked(bytes12(0x010000000000000000000000), record.pool);
        bytes32 root = depositDataRoot(publicKey, credentials, signature);
        bytes32 who = verifyEnclaves(keccak256(abi.encode(DEPOSIT, epoch, poolId, record.attempt, root)), proof);

        publicKeyUsed[keccak256(publicKey)] = true;
        record.publicKey = publicKey;
        record.status = Status.Deposited;
        emit PoolDepositInitiated(poolId);
        emit DepositProven(poolId, record.attempt, publicKey, root, who);
        IDepositContract(depositContract).deposit{value: POOL_CAPACITY}(publicKey, credentials, signature, root);
        emit PoolDeposited(poolId);
    }

    /// @notice Gives up a pool's key, so that no proof for it is valid any more and the enclaves may make another one.
    /// @dev Anybody may call it with the enclave quorum's proof of RaiseAttempt, which names the new attempt.
    function raiseAttempt(uint32 poolId, bytes calldata proof) external {
        PoolRecord storage record = inStatus(poolId, Status.Ready);
        uint16 attempt = record.attempt + 1;
        verifyEnclaves(keccak256(abi.encode(RAISE_ATTEMPT, epoch, poolId, attempt)), proof);
        record.attempt = attempt;
        emit AttemptRaised(poolId, attempt);
    }

    /// @notice Gives a pool up that got no validator in time. Its stakers may claim what they contributed.
    /// @dev Anybody may call it, `refundDelay` blocks after the pool was full.
    function refundPool(uint32 poolId) external {
        PoolRecord storage record = inStatus(poolId, Status.Ready);
        notBefore(record.readyAt + refundDelay);
        record.status = Status.Refunded;
        emit PoolRefunded(poolId);
        send(payable(record.pool), POOL_CAPACITY);
    }

    /// @notice Asks the DAO to bring validators out.
    /// @dev With an empty proof only the governor may call it. With the wallet quorum's proof of RequestExits anybody
    /// may, so that a governor that is lost or idle keeps nobody's stake in. Either can be repeated: a second request
    /// does no more than the first. What it starts cannot be taken back: from `exitDelay` blocks after the first
    /// request anybody may trigger the exit.
    function requestPoolExits(uint32[] calldata poolIds, string calldata reason, bytes calldata walletProof) external {
        if (walletProof.length != 0) {
            // A list is hashed as its words one after another, which is how it is packed.
            bytes32 list = keccak256(abi.encodePacked(poolIds));
            verifyWallets(keccak256(abi.encode(REQUEST_EXITS, epoch, list, keccak256(bytes(reason)))), walletProof);
        } else if (msg.sender != governor) {
            revert OnlyGovernor(msg.sender);
        }
        for (uint256 i = 0; i < poolIds.length; ++i) {
            PoolRecord storage record = withValidator(poolIds[i]);
            record.status = Status.ExitRequested;
            if (record.exitRequestedAt == 0) record.exitRequestedAt = uint64(block.number);
            emit PoolExitRequested(poolIds[i]);
            emit PoolExitReason(poolIds[i], reason);
        }
    }

    /// @notice Asks the beacon chain to bring a pool's validator out (EIP-7002). The ether sent along is the most that
    /// the request may cost; the rest comes back.
    /// @dev With an empty proof the governor may call it at once, and anybody from `exitDelay` blocks after the first
    /// request. With the enclave quorum's proof of TriggerExit anybody may call it at once. The beacon chain ignores a
    /// request that it cannot follow yet and gives no answer, so this can be repeated and changes no status.
    function triggerExit(uint32 poolId, bytes calldata proof) external payable {
        PoolRecord storage record = withValidator(poolId);
        if (proof.length != 0) {
            verifyEnclaves(keccak256(abi.encode(TRIGGER_EXIT, epoch, poolId)), proof);
        } else if (msg.sender != governor) {
            if (record.exitRequestedAt == 0) revert ExitNotRequested(poolId);
            notBefore(record.exitRequestedAt + exitDelay);
        }
        uint256 fee = Pool(payable(record.pool)).requestExit{value: msg.value}(record.publicKey, payable(msg.sender));
        emit ExitTriggered(poolId, fee);
    }

    /// @notice Reports that a pool's validator has left. It is a line on record: no status changes, nothing is blocked.
    /// @dev Anybody may call it with the enclave quorum's proof of PoolExited.
    function reportPoolExited(uint32 poolId, bytes calldata proof) external {
        withValidator(poolId);
        verifyEnclaves(keccak256(abi.encode(POOL_EXITED, epoch, poolId)), proof);
        emit PoolExited(poolId);
    }

    /// @notice Pays the caller its part of everything that has come into a pool, less what it has claimed before.
    /// @dev Anybody who contributed to the pool may call it, at any time after the deposit or the refund.
    function claim(uint32 poolId) external {
        uint256 amount = claimable(poolId, msg.sender);
        if (amount == 0) revert NothingToClaim(poolId, msg.sender);
        PoolRecord storage record = pools[poolId];
        claimed[poolId][msg.sender] += amount;
        record.paid += amount;
        emit Claimed(poolId, msg.sender, amount);
        Pool(payable(record.pool)).pay(payable(msg.sender), amount);
    }

    /// @notice Names who may become governor; zero withdraws the proposal.
    /// @dev Only the governor may call it. Two steps, so that no typing error can lose the office.
    function proposeGovernor(address proposed) external onlyGovernor {
        pendingGovernor = proposed;
        emit GovernorProposed(proposed);
    }

    /// @notice Takes over as governor.
    /// @dev Only who was proposed may call it.
    function acceptGovernor() external {
        if (msg.sender != pendingGovernor) revert OnlyGovernor(msg.sender);
        emit GovernorChanged(governor, msg.sender);
        governor = msg.sender;
        pendingGovernor = address(0);
    }

    /// @notice The address of a pool, also of one that does not exist yet: it follows from the id.
    function getPoolAddress(uint32 poolId) external view returns (address) {
        bytes32 digest = keccak256(
            abi.encodePacked(bytes1(0xff), address(this), bytes32(uint256(poolId)), poolCodeHash())
        );
        return address(uint160(uint256(digest)));
    }

    /// @notice The hash of every pool's creation code, from which pool addresses follow.
    function poolCodeHash() public pure returns (bytes32) {
        return keccak256(type(Pool).creationCode);
    }

    /// @notice A pool's address, status and (once deposited) validator public key. All zero when there is none.
    function getPool(uint32 poolId) external view returns (address pool, uint8 status, bytes memory publicKey) {
        PoolRecord storage record = pools[poolId];
        return (record.pool, uint8(record.status), record.publicKey);
    }

    /// @notice The attempt at a pool's key whose deposit is accepted, counted from zero.
    function attemptOf(uint32 poolId) external view returns (uint16) {
        return pools[poolId].attempt;
    }

    /// @notice The block in which a pool became full, and that of the first request to exit; zero if there was none.
    function blocksOf(uint32 poolId) external view returns (uint64 readyAt, uint64 exitRequestedAt) {
        return (pools[poolId].readyAt, pools[poolId].exitRequestedAt);
    }

    /// @notice What a staker has brought into a pool, in wei.
    function contributionOf(uint32 poolId, address staker) external view returns (uint256) {
        return contributions[poolId][staker];
    }

    /// @notice What a staker would be paid by `claim` now, in wei.
    /// @dev What a pool holds and has paid never falls together, so nobody's part can shrink.
    function claimable(uint32 poolId, address staker) public view returns (uint256) {
        PoolRecord storage record = pools[poolId];
        if (record.status == Status.None || record.status == Status.Ready) return 0;
        uint256 total = record.pool.balance + record.paid;
        return contributions[poolId][staker] * total / POOL_CAPACITY - claimed[poolId][staker];
    }

    function makePool(uint32 poolId) private {
        poolCount = poolId;
        unpooled = 0;
        PoolRecord storage record = pools[poolId];
        record.pool = address(new Pool{salt: bytes32(uint256(poolId))}());
        record.status = Status.Ready;
        record.readyAt = uint64(block.number);
        emit PoolDepositRequested(poolId);
    }

    function inStatus(uint32 poolId, Status wanted) private view returns (PoolRecord storage record) {
        record = pools[poolId];
        if (record.status != wanted) revert WrongStatus(poolId, record.status);
    }

    function withValidator(uint32 poolId) private view returns (PoolRecord storage record) {
        record = pools[poolId];
        if (record.status != Status.Deposited && record.status != Status.ExitRequested) {
            revert WrongStatus(poolId, record.status);
        }
    }

    function notBefore(uint256 number) private view {
        if (block.number < number) revert TooEarly(number);
    }

    function send(address payable to, uint256 amount) private {
        (bool sent,) = to.call{value: amount}("");
        if (!sent) revert TransferFailed();
    }

    /// @dev `hash_tree_root(DepositData)` of consensus-specs: four fields, so a tree of four chunks.
    function depositDataRoot(bytes calldata publicKey, bytes memory credentials, bytes calldata signature)
        private
        pure
        returns (bytes32)
    {
        bytes32 publicKeyRoot = sha256(abi.encodePacked(publicKey, bytes16(0)));
        bytes32 signatureRoot = sha256(
            abi.encodePacked(sha256(signature[:64]), sha256(abi.encodePacked(signature[64:], bytes32(0))))
        );
        return sha256(
            abi.encodePacked(
                sha256(abi.encodePacked(publicKeyRoot, credentials)),
                sha256(abi.encodePacked(AMOUNT, bytes24(0), signatureRoot))
            )
        );
    }
}
