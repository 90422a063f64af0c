// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title The members of a DAO: their wallets, their enclaves' signers, and how many of each make a statement valid
/// @notice A proof is a bitmap of members (bit 0 is member 1) followed by one 65-byte signature, r ‖ s ‖ v, for each
/// bit, in ascending order. There are exactly as many bits as are required, so a set of signers has one encoding.
/// @dev Every permissionless function carries its proof, so nobody has to be trusted to call it. A proof that is not
/// valid always reverts. Signatures are EIP-712 in this contract's domain. There are no nonces: each statement names
/// something that changes when it is used (an epoch, a number, an attempt), or does no harm when it is used again.
abstract contract Council {
    /// @notice Who the members are. `wallets` and `signers` are in the order of the members and equally long.
    /// @dev A signer of zero is a member whose enclave is not known yet: it cannot sign.
    struct Terms {
        uint16 quorum;
        uint16 walletQuorum;
        address[] wallets;
        address[] signers;
    }

    /// @notice One change of the manifest, as the wallets sign it.
    struct EpochChange {
        string dao;
        uint64 epoch;
        bytes32 predecessor;
        bytes32 manifest;
        Terms terms;
        string changes;
    }

    /// @notice What a recovery puts in force, and the epoch that begins with it.
    struct RecoveryTerms {
        uint64 epoch;
        bytes32 manifest;
        Terms terms;
    }

    /// @notice A recovery that waits. There is none while `number` is zero.
    /// @dev It always belongs to the epoch in force, because every change of the epoch drops it. Its own `epoch` is the
    /// one that it would begin.
    struct PendingRecovery {
        uint32 number;
        uint64 readyAt;
        uint64 epoch;
        bytes32 manifest;
        bytes32 council;
    }

    /// @notice The members now are those with this `council` hash; the manifest that names them has this hash.
    event EpochAdvanced(uint64 indexed epoch, bytes32 manifest, bytes32 council);
    /// @notice A member's enclave is known by another address from now on. Members count from 1.
    event SignerChanged(uint16 indexed member, address previous, address current);
    /// @notice From block `readyAt` on anybody may put these members in force, unless the enclaves object. `epoch` is
    /// the one in force, `next` the one that would begin.
    event RecoveryProposed(
        uint32 number, uint64 epoch, uint64 next, bytes32 manifest, bytes32 council, uint64 readyAt
    );
    event RecoveryCancelled(uint32 number);
    /// @notice `epoch` is the new one.
    event RecoveryExecuted(uint32 number, uint64 epoch);

    error NotFounded();
    error ZeroDelay();
    error WrongEpoch(uint64 expected, uint64 actual);
    error WrongPredecessor(bytes32 expected, bytes32 actual);
    error SurplusProof();
    error ProofLength(uint256 expected, uint256 actual);
    error ProofSignerCount(uint256 expected, uint256 actual);
    error ProofBeyondMembers(uint256 bitmap, uint256 members);
    error ProofSignature(uint256 member);
    error MemberCount(uint256 count);
    error SignerCount(uint256 expected, uint256 actual);
    error QuorumOutOfRange(uint256 quorum);
    error WalletQuorumOutOfRange(uint256 walletQuorum);
    error WalletRefused(address wallet);
    error SignerRefused(address signer);
    error RecoveryAlreadyPending(uint32 number);
    error NoSuchRecovery();
    error TooEarly(uint256 readyAt);

    /// @notice The manifest allows no more members either.
    uint256 public constant MAX_MEMBERS = 40;
    /// @dev Below this nobody could meet a quorum of two.
    uint256 private constant MIN_MEMBERS = 2;
    /// @dev How far a founding or a recovery may go beyond the epoch in force: an epoch a day takes more than a century
    /// for it. Recoveries are counted in 32 bits and epochs in 64, so a recovery never leaves too few for later ones.
    uint64 private constant MAX_EPOCH_STEP = type(uint16).max;
    uint256 private constant SIGNATURE_LENGTH = 65;
    /// @dev Half the order of secp256k1. `ecrecover` takes larger values too, which would give a signature two forms.
    uint256 private constant MAX_S = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant DOMAIN_NAME = keccak256("Postern");
    bytes32 private constant DOMAIN_VERSION = keccak256("1");
    bytes32 private constant MANIFEST_EPOCH = keccak256(
        "ManifestEpoch(string dao,uint64 epoch,bytes32 predecessor,bytes32 manifest,bytes32 council,string changes)"
    );
    bytes32 private constant RECOVERY =
        keccak256("Recovery(uint64 epoch,uint32 number,uint64 next,bytes32 manifest,bytes32 council)");
    bytes32 private constant EPOCH_APPLIED =
        keccak256("EpochApplied(uint64 epoch,bytes32 manifest,bytes32 council)");
    bytes32 private constant CANCEL_RECOVERY =
        keccak256("CancelRecovery(uint64 epoch,uint32 number,bytes32 manifest,bytes32 council)");

    /// @notice How many blocks a recovery waits, so that the enclaves can object.
    uint64 public immutable recoveryDelay;

    /// @notice The epoch in force; zero until the DAO is founded.
    uint64 public epoch;
    /// @notice How many enclaves make a statement valid.
    uint16 public quorum;
    /// @notice How many wallets make a change of the manifest valid.
    uint16 public walletQuorum;
    /// @notice How many recoveries were ever proposed.
    uint32 public recoveryCount;
    /// @notice The hash of the manifest in force.
    bytes32 public manifestHash;
    /// @notice The recovery that waits.
    PendingRecovery public pendingRecovery;
    /// @notice Signers that were replaced. They can never return, whoever wants it.
    mapping(address signer => bool) public retired;

    address[] private walletList;
    address[] private signerList;

    constructor(address[] memory founders, uint64 recoveryDelay_) {
        if (recoveryDelay_ == 0) revert ZeroDelay();
        recoveryDelay = recoveryDelay_;
        checkWallets(founders);
        walletList = founders;
    }

    /// @notice Founds the DAO, or puts the next epoch's members in force.
    /// @dev Anybody may call it. To found, **all** wallets of the constructor sign ManifestEpoch and `enclaveProof` is
    /// empty. Later `walletProof` is the wallet quorum's over ManifestEpoch, and `enclaveProof` is that of the quorum in
    /// force over EpochApplied. The wallets alone could put an epoch in force that the enclaves refuse, after which no
    /// proof would ever verify; the enclaves alone could make a theft permanent.
    function advanceEpoch(EpochChange calldata change, bytes calldata walletProof, bytes calldata enclaveProof)
        external
    {
        Terms memory terms = change.terms;
        bytes32 council = hashOf(terms);
        bytes32 statement = keccak256(
            abi.encode(
                MANIFEST_EPOCH,
                keccak256(bytes(change.dao)),
                change.epoch,
                change.predecessor,
                change.manifest,
                council,
                keccak256(bytes(change.changes))
            )
        );
        if (epoch == 0) {
            checkStep(change.epoch);
            if (enclaveProof.length != 0) revert SurplusProof();
            verify(statement, walletProof, walletList, walletList.length);
        } else {
            if (change.epoch != epoch + 1) revert WrongEpoch(epoch + 1, change.epoch);
            if (change.predecessor != manifestHash) revert WrongPredecessor(manifestHash, change.predecessor);
            verifyWallets(statement, walletProof);
            verifyEnclaves(
                keccak256(abi.encode(EPOCH_APPLIED, change.epoch, change.manifest, council)), enclaveProof
            );
        }
        checkTerms(terms);
        if (pendingRecovery.number != 0) {
            emit RecoveryCancelled(pendingRecovery.number);
            delete pendingRecovery;
        }
        install(change.epoch, change.manifest, council, terms);
    }

    /// @notice Announces members that shall be put in force without the enclaves, because their quorum is lost.
    /// @dev Anybody may call it with the wallet quorum's proof of Recovery. The terms are checked here already: a
    /// proposal that could never be executed would block all later ones. The wallets say which epoch begins, because
    /// the enclaves may have gone on without this contract: with another number the two would part for good.
    function proposeRecovery(RecoveryTerms calldata proposal, bytes calldata walletProof) external {
        if (pendingRecovery.number != 0) revert RecoveryAlreadyPending(pendingRecovery.number);
        Terms memory terms = proposal.terms;
        bytes32 council = hashOf(terms);
        uint32 number = ++recoveryCount;
        verifyWallets(
            keccak256(abi.encode(RECOVERY, epoch, number, proposal.epoch, proposal.manifest, council)), walletProof
        );
        checkStep(proposal.epoch);
        checkTerms(terms);
        uint64 readyAt = uint64(block.number) + recoveryDelay;
        pendingRecovery = PendingRecovery(number, readyAt, proposal.epoch, proposal.manifest, council);
        emit RecoveryProposed(number, epoch, proposal.epoch, proposal.manifest, council, readyAt);
    }

    /// @notice Drops the recovery that waits: the enclaves are well.
    /// @dev Anybody may call it with the enclave quorum's proof of CancelRecovery. It names what was proposed, enclaves
    /// that did not exist before, so nobody can have it signed before the proposal is known. Objections to bare numbers
    /// could be collected while all is well, and would block every recovery once the enclaves are lost.
    function cancelRecovery(bytes calldata proof) external {
        PendingRecovery memory pending = pendingRecovery;
        if (pending.number == 0) revert NoSuchRecovery();
        verifyEnclaves(
            keccak256(abi.encode(CANCEL_RECOVERY, epoch, pending.number, pending.manifest, pending.council)), proof
        );
        delete pendingRecovery;
        emit RecoveryCancelled(pending.number);
    }

    /// @notice Puts a recovery's members in force.
    /// @dev Anybody may call it, without a proof, from block `readyAt` on and with what was proposed.
    function executeRecovery(bytes32 manifest, Terms calldata newTerms) external {
        PendingRecovery memory pending = pendingRecovery;
        Terms memory terms = newTerms;
        bytes32 council = hashOf(terms);
        if (pending.number == 0 || manifest != pending.manifest || council != pending.council) {
            revert NoSuchRecovery();
        }
        if (block.number < pending.readyAt) revert TooEarly(pending.readyAt);
        delete pendingRecovery;
        emit RecoveryExecuted(pending.number, pending.epoch);
        install(pending.epoch, manifest, council, terms);
    }

    /// @notice The members' wallets.
    function wallets() external view returns (address[] memory) {
        return walletList;
    }

    /// @notice The addresses that the members' enclaves sign with; zero for a member whose enclave is not known yet.
    function signers() external view returns (address[] memory) {
        return signerList;
    }

    /// @notice The hash by which signatures name the members in force.
    function councilHash() external view returns (bytes32) {
        return hashOf(Terms(quorum, walletQuorum, walletList, signerList));
    }

    /// @dev Reverts unless the quorum of enclaves in force has signed. Gives the bitmap of those that did.
    function verifyEnclaves(bytes32 statement, bytes calldata proof) internal view returns (bytes32) {
        return verify(statement, proof, signerList, quorum);
    }

    /// @dev Reverts unless the quorum of wallets in force has signed.
    function verifyWallets(bytes32 statement, bytes calldata proof) internal view {
        verify(statement, proof, walletList, walletQuorum);
    }

    function verify(bytes32 statement, bytes calldata proof, address[] storage members, uint256 wanted)
        private
        view
        returns (bytes32)
    {
        // Before the DAO is founded both quorums are zero, and an empty set of signers must prove nothing.
        if (wanted == 0) revert NotFounded();
        uint256 length = 32 + SIGNATURE_LENGTH * wanted;
        if (proof.length != length) revert ProofLength(length, proof.length);
        uint256 bitmap = uint256(bytes32(proof[:32]));
        if (bitmap >> members.length != 0) revert ProofBeyondMembers(bitmap, members.length);
        uint256 count = bitsIn(bitmap);
        if (count != wanted) revert ProofSignerCount(wanted, count);

        bytes32 digest = keccak256(abi.encodePacked(bytes2(0x1901), domain(), statement));
        uint256 start = 32;
        for (uint256 index = 0; bitmap >> index != 0; ++index) {
            if ((bitmap >> index) & 1 == 0) continue;
            if (!signed(digest, proof[start:start + SIGNATURE_LENGTH], members[index])) {
                revert ProofSignature(index + 1);
            }
            start += SIGNATURE_LENGTH;
        }
        return bytes32(bitmap);
    }

    function signed(bytes32 digest, bytes calldata signature, address member) private pure returns (bool) {
        bytes32 s = bytes32(signature[32:64]);
        uint8 v = uint8(signature[64]);
        if (uint256(s) > MAX_S || (v != 27 && v != 28)) return false;
        address signer = ecrecover(digest, v, bytes32(signature[:32]), s);
        // A failed recovery gives zero, which is also how a member without an enclave is stored.
        return signer != address(0) && signer == member;
    }

    function bitsIn(uint256 bitmap) private pure returns (uint256 count) {
        for (; bitmap != 0; bitmap &= bitmap - 1) ++count;
    }

    /// @dev Computed at each call: after a fork of the chain the two branches have different chain ids.
    function domain() private view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPE, DOMAIN_NAME, DOMAIN_VERSION, block.chainid, address(this)));
    }

    function hashOf(Terms memory terms) private pure returns (bytes32) {
        return keccak256(abi.encode(terms.quorum, terms.walletQuorum, terms.wallets, terms.signers));
    }

    /// @dev A founding and a recovery may skip epochs, but not so many that too few are left for those that follow.
    function checkStep(uint64 given) private view {
        if (given <= epoch || given - epoch > MAX_EPOCH_STEP) revert WrongEpoch(epoch + 1, given);
    }

    /// @dev What is refused here would leave a DAO that can never prove anything, or one whose members count twice.
    function checkTerms(Terms memory terms) private view {
        uint256 count = terms.wallets.length;
        if (count < walletList.length) revert MemberCount(count);
        checkWallets(terms.wallets);
        if (terms.signers.length != count) revert SignerCount(count, terms.signers.length);
        uint256 able = checkSigners(terms.signers, terms.wallets);
        if (terms.quorum < 2 || 2 * uint256(terms.quorum) <= count || terms.quorum > able) {
            revert QuorumOutOfRange(terms.quorum);
        }
        if (2 * uint256(terms.walletQuorum) <= count || terms.walletQuorum > count) {
            revert WalletQuorumOutOfRange(terms.walletQuorum);
        }
    }

    function checkWallets(address[] memory list) private pure {
        if (list.length < MIN_MEMBERS || list.length > MAX_MEMBERS) revert MemberCount(list.length);
        for (uint256 i = 0; i < list.length; ++i) {
            if (list[i] == address(0) || contains(list, i, list[i])) revert WalletRefused(list[i]);
        }
    }

    /// @dev Gives how many members can sign. A signer stays where it is or is new: one that moves from member to member
    /// would have to be retired at the one and accepted at the other.
    function checkSigners(address[] memory list, address[] memory walletsOfList) private view returns (uint256 able) {
        address[] memory current = signerList;
        for (uint256 i = 0; i < list.length; ++i) {
            address signer = list[i];
            if (signer == address(0)) continue;
            ++able;
            bool stays = i < current.length && current[i] == signer;
            if (
                contains(list, i, signer) || contains(walletsOfList, walletsOfList.length, signer)
                    || (!stays && (retired[signer] || contains(current, current.length, signer)))
            ) revert SignerRefused(signer);
        }
    }

    function contains(address[] memory list, uint256 end, address wanted) private pure returns (bool) {
        for (uint256 i = 0; i < end; ++i) {
            if (list[i] == wanted) return true;
        }
        return false;
    }

    function install(uint64 newEpoch, bytes32 manifest, bytes32 council, Terms memory terms) private {
        address[] memory previous = signerList;
        for (uint256 i = 0; i < terms.signers.length; ++i) {
            address old = i < previous.length ? previous[i] : address(0);
            if (old == terms.signers[i]) continue;
            if (old != address(0)) retired[old] = true;
            emit SignerChanged(uint16(i + 1), old, terms.signers[i]);
        }
        epoch = newEpoch;
        quorum = terms.quorum;
        walletQuorum = terms.walletQuorum;
        manifestHash = manifest;
        walletList = terms.wallets;
        signerList = terms.signers;
        emit EpochAdvanced(newEpoch, manifest, council);
    }
}
