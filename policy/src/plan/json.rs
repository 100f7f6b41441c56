//! JSON as a plan has it: a piece of the text that it came in, taken apart one level at a time.
//!
//! A tree of it all would hold several times the memory of the plan that is made of it, and the memory of a module never
//! shrinks again. Whether the text is JSON serde_json has said before; so what is here only needs to find where things
//! end, and the module does without the rest of that parser.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::PlanError;

/// Any JSON, known to be well formed, without white space around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json<'j>(&'j str);

/// The fields of an object, in the order of the text.
pub(super) type Fields<'j> = Vec<(Cow<'j, str>, Json<'j>)>;

impl<'j> Json<'j> {
    /// What a text holds.
    pub(super) fn read(text: &'j [u8]) -> Result<Self, PlanError> {
        let _well_formed: IgnoredAny = serde_json::from_slice(text)?;
        Ok(Self(std::str::from_utf8(text)?.trim_ascii()))
    }

    /// What it is, as a sentence has it.
    pub(super) fn kind(self) -> &'static str {
        match self.0.bytes().next() {
            Some(b'n') => "null",
            Some(b't' | b'f') => "true or false",
            Some(b'"') => "a text",
            Some(b'[') => "a list",
            Some(b'{') => "an object",
            Some(_) | None => "a number",
        }
    }

    /// Whether it is null.
    pub(super) fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// True or false.
    pub(super) fn truth(self) -> Option<bool> {
        self.0.parse().ok()
    }

    /// A whole number.
    pub(super) fn number(self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// A text; borrowed, where nothing in it is escaped.
    pub(super) fn text(self) -> Option<Cow<'j, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') { unescaped(inner).map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
    }

    /// The items of a list.
    pub(super) fn items(self) -> Option<Vec<Self>> {
        let mut rest = self.0.strip_prefix('[')?.trim_ascii_start();
        let mut items = Vec::new();
        while let Some(item) = next(&mut rest) {
            items.push(item);
        }
        Some(items)
    }

    /// The fields of an object; a key may come twice.
    pub(super) fn fields(self) -> Option<Fields<'j>> {
        let mut rest = self.0.strip_prefix('{')?.trim_ascii_start();
        let mut fields = Vec::new();
        while let Some(key) = next(&mut rest) {
            fields.push((key.text()?, next(&mut rest)?));
        }
        Some(fields)
    }
}

/// Takes the next value, and what stands between it and the one after; `None` at the end of a list or an object.
fn next<'j>(rest: &mut &'j str) -> Option<Json<'j>> {
    let (value, behind) = rest.split_at_checked(end(rest.as_bytes()))?;
    *rest = behind.strip_prefix([',', ':']).unwrap_or(behind).trim_ascii_start();
    let value = value.trim_ascii();
    (!value.is_empty()).then_some(Json(value))
}

/// Where the value ends that a text begins with.
fn end(text: &[u8]) -> usize {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' | b',' | b':' if depth == 0 => return at,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// What an escaped text says; `None` where half a surrogate pair stands alone.
fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(sign) = rest.next() {
        if sign != '\\' {
            out.push(sign);
            continue;
        }
        out.push(match rest.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => match unit(&mut rest)? {
                high @ 0xd800..0xdc00 => {
                    (rest.next()? == '\\' && rest.next()? == 'u').then_some(())?;
                    pair(high, unit(&mut rest)?)?
                }
                unit => char::from_u32(unit)?,
            },
            itself => itself,
        });
    }
    Some(out)
}

/// Four digits.
fn unit(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |unit, _| Some(unit << 4 | rest.next()?.to_digit(16)?))
}

fn pair(high: u32, low: u32) -> Option<char> {
    let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    char::from_u32(0x1_0000 + ((high - 0xd800) << 10 | low))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What serde_json makes of it, by taking it apart here at every level.
    fn tree(json: Json<'_>) -> Option<serde_json::Value> {
        Some(match json.kind() {
            "a text" => json.text()?.into_owned().into(),
            "a list" => json.items()?.into_iter().map(tree).collect::<Option<Vec<_>>>()?.into(),
            "an object" => {
                let fields =
                    json.fields()?.into_iter().map(|(key, value)| Some((key.into_owned(), tree(value)?)));
                fields.collect::<Option<serde_json::Map<_, _>>>()?.into()
            }
            "null" => serde_json::Value::Null,
            "true or false" => json.truth()?.into(),
            _ => serde_json::from_str(json.0).unwrap(),
        })
    }

    #[test]
    fn it_is_taken_apart_as_serde_json_does() {
        for text in [
            r#" { "a" : [ 1 , -2.5e3, [] , {} , [ [ ] ] , true,false , null ] , "b":{"c":"d"} } "#,
            r#"{"a,]}:[{\"":"\\","\u00e9\n\/":"\ud83d\ude00 \b\f\r\t ü"}"#,
            "[\"\\\\\",\"\\\"\",\"\",{\"\":\"\"}]",
            "[]",
            "\n{}\t",
            "\"\"",
            "7",
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(tree(Json::read(text.as_bytes()).unwrap()), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_before_and_half_a_sign_is_no_text() {
        for bad in [&b"{"[..], b"[1,]", b"{\"a\" 1}", b"", b"\"a", b"[1] 2", b"[01]", b"\"\xff\"", b"\"\\x\""]
        {
            assert!(Json::read(bad).is_err(), "{bad:?}");
        }
        for half in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\ud800x""#] {
            assert_eq!(Json::read(half.as_bytes()).unwrap().text(), None, "{half}");
        }
    }
}
