//! Protobuf's encoding, as far as messages between guest and host need it.

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A number, a boolean or an enumerated value.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields of `message` with their numbers, in order; `None` if it is no message. Numbers of fixed width are passed
/// over.
pub(crate) fn fields(mut message: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => fields.push((tag >> 3, Value::Number(varint(&mut message)?))),
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (content, rest) = message.split_at_checked(length)?;
                message = rest;
                fields.push((tag >> 3, Value::Bytes(content)));
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(fields)
}

/// The last value of the field `number` that has bytes.
pub(crate) fn bytes<'a>(fields: &[(u64, Value<'a>)], number: u64) -> Option<&'a [u8]> {
    fields.iter().rev().find_map(|(field, value)| match value {
        Value::Bytes(bytes) if *field == number => Some(*bytes),
        Value::Bytes(_) | Value::Number(_) => None,
    })
}

/// The last value of the field `number` that is a number; 0, protobuf's default, if there is none.
pub(crate) fn number(fields: &[(u64, Value<'_>)], number: u64) -> u64 {
    let last = fields.iter().rev().find_map(|(field, value)| match value {
        Value::Number(found) if *field == number => Some(*found),
        Value::Number(_) | Value::Bytes(_) => None,
    });
    last.unwrap_or_default()
}

/// Adds a field of text, unless it has protobuf's default.
pub(crate) fn put_text(message: &mut Vec<u8>, number: u64, text: &str) {
    if !text.is_empty() {
        put(message, number, text.as_bytes());
    }
}

/// Adds a field of bytes.
pub(crate) fn put(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(message, number << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

/// Adds a field of a number.
pub(crate) fn put_number(message: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(message, number << 3);
    put_varint(message, value);
}

/// Adds a field of a double.
pub(crate) fn put_double(message: &mut Vec<u8>, number: u64, value: f64) {
    put_varint(message, number << 3 | 1);
    message.extend(value.to_le_bytes());
}

fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = (number & 0x7f).to_le_bytes();
        number >>= 7;
        if number == 0 {
            return message.push(low);
        }
        message.push(low | 0x80);
    }
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_the_last_of_a_number_counts() {
        let message = b"\x0a\x01a\x10\x96\x01\x0a\x01b\x1d\0\0\0\0\x21\0\0\0\0\0\0\0\0";
        let mut written = Vec::new();
        put_text(&mut written, 1, "a");
        put_text(&mut written, 4, "");
        put_number(&mut written, 2, 150);
        assert!(message.starts_with(&written));
        let read = fields(message).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!((bytes(&read, 1), number(&read, 2)), (Some(&b"b"[..]), 150));
        assert_eq!((bytes(&read, 2), number(&read, 9)), (None, 0));
        for broken in [&b"\x0a\x05a"[..], b"\x0a", b"\xff\xff", b"\x0d\x00", b"\x0b"] {
            assert_eq!(fields(broken), None, "{broken:?}");
        }
    }
}
