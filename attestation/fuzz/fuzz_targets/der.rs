//! Alters DER so that it stays DER: whatever is altered inside, all lengths around it fit again. Bytes altered blindly are
//! hardly ever read beyond the first length that is wrong.

use libfuzzer_sys::fuzzer_mutate;

/// How much longer one alteration may make a value.
const GROWTH: usize = 32;
/// What is nested deeper is left as bytes.
const MAX_DEPTH: u8 = 12;

#[derive(Clone)]
struct Node {
    tag: u8,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Bytes(Vec<u8>),
    /// Of constructed types; also what strings hold: extensions, keys.
    Nodes {
        /// The count of unused bits, in a bit string.
        unused_bits: Option<u8>,
        nodes: Vec<Node>,
    },
}

/// Another form of `bytes`; none if it is no DER.
pub fn alter(bytes: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut random = Random(u64::from(seed));
    let mut nodes = parse(bytes, 0).filter(|nodes| !nodes.is_empty())?;
    let chosen = random.below(nodes.iter().map(count).sum());
    alter_nth(&mut nodes, chosen, &mut random);
    Some(encode(&nodes))
}

/// All of `bytes` as values one after the other.
fn parse(mut bytes: &[u8], depth: u8) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    while let [tag, length, rest @ ..] = bytes {
        // Tag numbers above 30 and indefinite lengths occur in no certificate.
        let (length, rest) = match length {
            ..=0x7F => (usize::from(*length), rest),
            0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
            0x82 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), rest.get(2..)?),
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        nodes.push(Node { tag: *tag, content: parse_content(*tag, content, depth) });
        bytes = rest;
    }
    bytes.is_empty().then_some(nodes)
}

fn parse_content(tag: u8, content: &[u8], depth: u8) -> Content {
    let (unused_bits, inner) = match (tag, content) {
        (0x03, [unused, inner @ ..]) => (Some(*unused), inner),
        _ => (None, content),
    };
    let may_hold_others = tag & 0x20 != 0 || matches!(tag, 0x03 | 0x04);
    let nodes = (may_hold_others && depth < MAX_DEPTH).then(|| parse(inner, depth + 1)).flatten();
    match nodes {
        Some(nodes) if !nodes.is_empty() => Content::Nodes { unused_bits, nodes },
        _ => Content::Bytes(content.to_vec()),
    }
}

fn encode(nodes: &[Node]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for node in nodes {
        let content = match &node.content {
            Content::Bytes(content) => content.clone(),
            Content::Nodes { unused_bits, nodes } => {
                unused_bits.iter().copied().chain(encode(nodes)).collect()
            }
        };
        bytes.push(node.tag);
        match content.len() {
            length @ ..=0x7F => bytes.push(length as u8),
            length @ ..=0xFF => bytes.extend([0x81, length as u8]),
            length => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        bytes.extend(content);
    }
    bytes
}

fn count(node: &Node) -> usize {
    match &node.content {
        Content::Bytes(_) => 1,
        Content::Nodes { nodes, .. } => 1 + nodes.iter().map(count).sum::<usize>(),
    }
}

/// Alters the node that comes after `skipped` others, or what surrounds it.
fn alter_nth(nodes: &mut Vec<Node>, mut skipped: usize, random: &mut Random) {
    for position in 0..nodes.len() {
        let within = count(&nodes[position]);
        if skipped >= within {
            skipped -= within;
            continue;
        }
        if skipped > 0
            && let Content::Nodes { nodes, .. } = &mut nodes[position].content
        {
            return alter_nth(nodes, skipped - 1, random);
        }
        match random.below(10) {
            0 => drop(nodes.remove(position)),
            1 => nodes.insert(position, nodes[position].clone()),
            2 => {
                let other = random.below(nodes.len());
                nodes.swap(position, other);
            }
            3 => nodes[position].tag = random.next() as u8,
            4 => nodes[position] = nodes[random.below(nodes.len())].clone(),
            5 => {
                let inner = nodes[position].clone();
                nodes[position].content = Content::Nodes { unused_bits: None, nodes: vec![inner] };
            }
            _ => alter_content(&mut nodes[position].content),
        }
        return;
    }
}

fn alter_content(content: &mut Content) {
    let mut bytes = match content {
        Content::Bytes(bytes) => std::mem::take(bytes),
        Content::Nodes { unused_bits: Some(bits), .. } if *bits == 0 => {
            // Else nothing would ever have unused bits.
            *bits = 1;
            return;
        }
        Content::Nodes { nodes, .. } => encode(nodes),
    };
    let length = bytes.len();
    bytes.resize(length + GROWTH, 0);
    let altered = fuzzer_mutate(&mut bytes, length, length + GROWTH);
    bytes.truncate(altered);
    *content = Content::Bytes(bytes);
}

/// SplitMix64: the fuzzer gives a seed and wants the same from the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound.max(1) as u64)) as usize
    }
}
