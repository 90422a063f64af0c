// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title The deposit contract of the Ethereum consensus specification
/// @notice An independent implementation of the interface every beacon chain listens to. It behaves like the one on
/// mainnet: same functions, same event, same checks in the same order, same revert texts, same Merkle root.
/// @dev The tree is the incremental Merkle tree of depth 32: only the left siblings of the next leaf's path are kept.
contract DepositContract {
    /// @notice One accepted deposit. Integers are little-endian byte strings, as SSZ writes them.
    event DepositEvent(bytes pubkey, bytes withdrawal_credentials, bytes amount, bytes signature, bytes index);

    uint256 private constant DEPTH = 32;

    /// @dev The last leaf stays free, so that the tree can never be full and `branch` always has a place to write to.
    uint256 private constant MAX_DEPOSIT_COUNT = 2 ** DEPTH - 1;

    /// @dev `branch[h]` is the left sibling at height `h` of the path to the next leaf, where that path turns right.
    bytes32[DEPTH] private branch;
    uint256 private depositCount;

    /// @dev `zeroHashes[h]` is the root of an empty subtree of height `h`.
    bytes32[DEPTH] private zeroHashes;

    constructor() {
        for (uint256 height = 0; height < DEPTH - 1; height++) {
            zeroHashes[height + 1] = hashPair(zeroHashes[height], zeroHashes[height]);
        }
    }

    /// @notice Submits one validator deposit.
    /// @param pubkey BLS12-381 public key, 48 bytes.
    /// @param withdrawal_credentials where the stake goes back to, 32 bytes.
    /// @param signature proof of possession over the deposit message, 96 bytes. Only the beacon chain checks it.
    /// @param deposit_data_root SSZ root of the whole `DepositData`: protects against a malformed call.
    function deposit(
        bytes calldata pubkey,
        bytes calldata withdrawal_credentials,
        bytes calldata signature,
        bytes32 deposit_data_root
    ) external payable {
        require(pubkey.length == 48, "DepositContract: invalid pubkey length");
        require(withdrawal_credentials.length == 32, "DepositContract: invalid withdrawal_credentials length");
        require(signature.length == 96, "DepositContract: invalid signature length");

        require(msg.value >= 1 ether, "DepositContract: deposit value too low");
        require(msg.value % 1 gwei == 0, "DepositContract: deposit value not multiple of gwei");
        uint256 amountInGwei = msg.value / 1 gwei;
        require(amountInGwei <= type(uint64).max, "DepositContract: deposit value too high");

        bytes memory amount = littleEndian64(uint64(amountInGwei));
        emit DepositEvent(
            pubkey, withdrawal_credentials, amount, signature, littleEndian64(uint64(depositCount))
        );

        bytes32 leaf = depositDataRoot(pubkey, withdrawal_credentials, amount, signature);
        require(
            leaf == deposit_data_root,
            "DepositContract: reconstructed DepositData does not match supplied deposit_data_root"
        );
        require(depositCount < MAX_DEPOSIT_COUNT, "DepositContract: merkle tree full");
        insert(leaf);
    }

    /// @notice The SSZ root of the list of all deposits (the tree's root with the count mixed in).
    function get_deposit_root() external view returns (bytes32) {
        bytes32 node;
        uint256 size = depositCount;
        for (uint256 height = 0; height < DEPTH; height++) {
            node = size & 1 == 1 ? hashPair(branch[height], node) : hashPair(node, zeroHashes[height]);
            size >>= 1;
        }
        return sha256(abi.encodePacked(node, littleEndian64(uint64(depositCount)), bytes24(0)));
    }

    /// @notice How many deposits were made, as eight little-endian bytes.
    function get_deposit_count() external view returns (bytes memory) {
        return littleEndian64(uint64(depositCount));
    }

    /// @notice EIP-165: this interface (0x85640907) and EIP-165 itself (0x01ffc9a7).
    function supportsInterface(bytes4 interfaceId) external pure returns (bool) {
        return interfaceId == this.supportsInterface.selector
            || interfaceId
                == this.deposit.selector ^ this.get_deposit_root.selector ^ this.get_deposit_count.selector;
    }

    /// @dev Appends a leaf: climbs while the path comes from the right, then leaves the node there as a left sibling.
    function insert(bytes32 leaf) private {
        depositCount += 1;
        uint256 size = depositCount;
        bytes32 node = leaf;
        for (uint256 height = 0; height < DEPTH; height++) {
            if (size & 1 == 1) {
                branch[height] = node;
                return;
            }
            node = hashPair(branch[height], node);
            size >>= 1;
        }
        // Unreachable: the count stays below 2^32, so one of its low 32 bits is set.
        assert(false);
    }

    /// @dev `hash_tree_root(DepositData)`: four fields, so a tree of four chunks.
    function depositDataRoot(
        bytes calldata pubkey,
        bytes calldata withdrawalCredentials,
        bytes memory amount,
        bytes calldata signature
    ) private pure returns (bytes32) {
        bytes32 pubkeyRoot = sha256(abi.encodePacked(pubkey, bytes16(0)));
        bytes32 signatureRoot = hashPair(
            sha256(abi.encodePacked(signature[:64])), sha256(abi.encodePacked(signature[64:], bytes32(0)))
        );
        return hashPair(
            sha256(abi.encodePacked(pubkeyRoot, withdrawalCredentials)),
            sha256(abi.encodePacked(amount, bytes24(0), signatureRoot))
        );
    }

    function hashPair(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return sha256(abi.encodePacked(left, right));
    }

    function littleEndian64(uint64 value) private pure returns (bytes memory result) {
        result = new bytes(8);
        for (uint256 i = 0; i < 8; i++) {
            result[i] = bytes1(uint8(value >> (8 * i)));
        }
    }
}
