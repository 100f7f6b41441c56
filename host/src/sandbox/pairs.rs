//! The ABI's encoding of a list of pairs.

/// Envoy refuses a larger block, and more pairs than this.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_PAIRS: usize = 1024;

type Pair<'a> = (&'a [u8], &'a [u8]);

/// Writes `pairs` behind what `block` has: the count, the sizes, then each name and value with a NUL behind it.
///
/// No pairs encode to no bytes, as Envoy hands out an empty map.
pub(crate) fn write<'a>(pairs: impl ExactSizeIterator<Item = Pair<'a>> + Clone, block: &mut Vec<u8>) {
    if pairs.len() == 0 {
        return;
    }
    block.extend_from_slice(&size(pairs.len()));
    for (name, value) in pairs.clone() {
        block.extend_from_slice(&size(name.len()));
        block.extend_from_slice(&size(value.len()));
    }
    for (name, value) in pairs {
        for part in [name, value] {
            block.extend_from_slice(part);
            block.push(0);
        }
    }
}

/// The block of `pairs`.
pub(crate) fn encode<'a>(pairs: impl ExactSizeIterator<Item = Pair<'a>> + Clone) -> Vec<u8> {
    let mut block = Vec::new();
    write(pairs, &mut block);
    block
}

/// Decodes a block of pairs; `None` if it is too large, cut short, or has bytes left over.
pub(crate) fn decode(block: &[u8]) -> Option<Vec<Pair<'_>>> {
    if block.is_empty() {
        return Some(Vec::new());
    }
    if block.len() > MAX_BYTES {
        return None;
    }
    let mut rest = block;
    let count = take_size(&mut rest)?;
    if count > MAX_PAIRS {
        return None;
    }
    let mut sizes = Vec::with_capacity(count);
    for _ in 0..count {
        sizes.push((take_size(&mut rest)?, take_size(&mut rest)?));
    }
    let mut pairs = Vec::with_capacity(count);
    for (name, value) in sizes {
        pairs.push((take_text(&mut rest, name)?, take_text(&mut rest, value)?));
    }
    rest.is_empty().then_some(pairs)
}

fn size(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn take_size(rest: &mut &[u8]) -> Option<usize> {
    let (size, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*size)).ok()
}

fn take_text<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (text, after) = rest.split_at_checked(length)?;
    let (nul, after) = after.split_first()?;
    *rest = after;
    (*nul == 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_pair_encodes_as_envoy_writes_it() {
        let block = encode([(&b"ab"[..], &b"c"[..])].into_iter());
        assert_eq!(block, b"\x01\0\0\0\x02\0\0\0\x01\0\0\0ab\0c\0");
    }

    #[test]
    fn an_empty_map_decodes_in_both_forms() {
        assert_eq!(decode(b""), Some(vec![]));
        assert_eq!(decode(b"\0\0\0\0"), Some(vec![]));
    }

    #[test]
    fn a_block_beyond_the_limits_does_not_decode() {
        let many = |count| encode(vec![(&b""[..], &b""[..]); count].into_iter());
        assert!(decode(&many(1024)).is_some());
        assert!(decode(&many(1025)).is_none());
        let of = |bytes: usize| encode([(&b""[..], &vec![b'x'; bytes - 14][..])].into_iter());
        assert_eq!(of(MAX_BYTES).len(), MAX_BYTES);
        assert!(decode(&of(MAX_BYTES)).is_some());
        assert!(decode(&of(MAX_BYTES + 1)).is_none());
    }

    #[test]
    fn a_missing_nul_and_left_over_bytes_do_not_decode() {
        assert!(decode(b"\x01\0\0\0\x01\0\0\0\x01\0\0\0axc\0").is_none());
        assert!(decode(b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0c\0\0").is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(block in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(pairs) = decode(&block) && !pairs.is_empty() {
                prop_assert_eq!(encode(pairs.into_iter()), block);
            }
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same(
            pairs in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), 0..9)), 0..20)
        ) {
            let pairs: Vec<Pair<'_>> = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            let block = encode(pairs.clone().into_iter());
            prop_assert_eq!(decode(&block), Some(pairs));
        }
    }
}
