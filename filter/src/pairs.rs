//! Header maps as the ABI encodes them: the count, the lengths of all names and values, then every name and value
//! with a NUL after it (proxy-wasm 0.2.1, "Serialized map"). Numbers are 32 bits, the lowest byte first.

/// The pairs of a map, in order, without a copy. Whatever does not hold together ends it.
///
/// ```
/// let map = isthmus_filter::pairs::encode(&[(":path", "/"), ("host", "")]);
/// let pairs: Vec<_> = isthmus_filter::pairs::of(&map).collect();
/// assert_eq!(pairs, [(&b":path"[..], &b"/"[..]), (b"host", b"")]);
/// ```
pub fn of(map: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (lengths, mut texts) = split(map).unwrap_or_default();
    lengths.iter().map_while(move |[name, value]| {
        let mut text = |length: &[u8; 4]| {
            let (text, rest) = texts.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            texts = rest.get(1..)?;
            Some(text)
        };
        Some((text(name)?, text(value)?))
    })
}

/// The lengths of a pair's name and value.
type Lengths = [[u8; 4]; 2];

/// The lengths of all pairs, and the texts after them.
fn split(map: &[u8]) -> Option<(&[Lengths], &[u8])> {
    let (count, rest) = map.split_first_chunk::<4>()?;
    let (lengths, texts) = rest.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(8)?)?;
    let (words, _) = lengths.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    Some((pairs, texts))
}

/// Pairs as a map that the proxy reads.
pub fn encode<T: AsRef<[u8]>>(pairs: &[(T, T)]) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).unwrap_or_default().to_le_bytes();
    // Two lengths and two NULs.
    let size = |(name, value): &(T, T)| name.as_ref().len() + value.as_ref().len() + 10;
    let mut out = Vec::with_capacity(4 + pairs.iter().map(size).sum::<usize>());
    out.extend_from_slice(&word(pairs.len()));
    for (name, value) in pairs {
        out.extend_from_slice(&word(name.as_ref().len()));
        out.extend_from_slice(&word(value.as_ref().len()));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            out.extend_from_slice(text.as_ref());
            out.push(0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_together_ends_the_pairs() {
        let map = encode(&[("a", "1"), ("b", "2")]);
        for end in 0..map.len() {
            let broken = map.get(..end).unwrap();
            assert!(of(broken).count() < 2, "{end}");
        }
        for at in 0..map.len() {
            let mut broken = map.clone();
            broken[at] = 0xff;
            assert!(of(&broken).count() <= 2, "{at}");
        }
        assert_eq!(of(&[0xff; 64]).count(), 0);
        assert_eq!(of(&[]).count(), 0);
    }
}
