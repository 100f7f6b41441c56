//! Mappings taken apart by name, with everything that is wrong in them noted.

use std::str::FromStr;

use super::{Key, Located, Node, Value};
use crate::finding::{Code, Finding, Place};

/// The entries of one mapping, taken out by name; what is left at the end is unknown.
#[derive(Debug)]
pub struct Fields<'a> {
    at: Place,
    what: &'static str,
    entries: Vec<(Key, Node)>,
    known: Vec<&'static str>,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Fields<'a> {
    /// Opens a mapping; anything else is a finding and `None`. `what` is what a finding calls it.
    pub fn open(node: Node, what: &'static str, findings: &'a mut Vec<Finding>) -> Option<Self> {
        let Value::Map(entries) = node.value else {
            findings.push(wrong_type(&node.at, what, "a mapping", &node.value));
            return None;
        };
        let mut kept: Vec<(Key, Node)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match kept.iter().find(|(other, _)| other.text == key.text) {
                Some((first, _)) => findings.push(Finding {
                    message: format!("key {:?} stands twice in this {what}", key.text),
                    hint: format!("the first is in line {}; keep one of them", first.at.line),
                    at: key.at,
                    code: Code::Duplicate,
                }),
                None => kept.push((key, value)),
            }
        }
        Some(Self { at: node.at, what, entries: kept, known: Vec::new(), findings })
    }

    /// Where the mapping starts.
    pub fn at(&self) -> &Place {
        &self.at
    }

    /// Takes what stands under a key, if anything does.
    pub fn optional(&mut self, key: &'static str) -> Option<Node> {
        self.take(key).filter(|node| node.value != Value::Null)
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        let index = self.entries.iter().position(|(found, _)| found.text == key)?;
        Some(self.entries.remove(index).1)
    }

    /// Takes what stands under a key; its absence is a finding.
    pub fn required(&mut self, key: &'static str) -> Option<Node> {
        let node = self.optional(key);
        if node.is_none() {
            self.findings.push(Finding {
                at: self.at.clone(),
                code: Code::MissingKey,
                message: format!("this {} has no {key:?}", self.what),
                hint: format!("add {key}: to it"),
            });
        }
        node
    }

    /// Takes a key whose value is read by [`FromStr`]; absence and refusal are findings.
    pub fn required_value<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        key: &'static str,
    ) -> Option<Located<T>> {
        let node = self.required(key)?;
        parse(node, key, self.findings)
    }

    /// Takes a key whose value is read by [`FromStr`], if it is there; refusal is a finding.
    pub fn optional_value<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        key: &'static str,
    ) -> Option<Located<T>> {
        let node = self.optional(key)?;
        parse(node, key, self.findings)
    }

    /// Takes a key whose value is one of `choices`, if it is there; anything else is a finding.
    pub fn optional_choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<Located<T>> {
        let node = self.optional(key)?;
        let text = parse::<String>(node, key, self.findings)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text.value) {
            return Some(Located { at: text.at, value: *value });
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.findings.push(Finding {
            at: text.at,
            code: Code::BadValue,
            message: format!("{key} cannot be {:?}", text.value),
            hint: format!("write one of {}", names.join(", ")),
        });
        None
    }

    /// Takes the items of a list under a key; `None` when there is no such key.
    ///
    /// A key with nothing after it is a finding: whoever wrote `allow:` and no rule did not mean to allow everyone.
    pub fn optional_list(&mut self, key: &'static str) -> Option<Located<Vec<Node>>> {
        let node = self.take(key)?;
        list(node, key, self.findings)
    }

    /// Takes a list whose items are read by [`FromStr`]; `None` when there is no such key.
    pub fn optional_values<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        key: &'static str,
    ) -> Option<Located<Vec<Located<T>>>> {
        let list = self.optional_list(key)?;
        let items = list.value.into_iter().filter_map(|node| parse(node, key, self.findings));
        Some(Located { at: list.at, value: items.collect() })
    }

    /// Opens the mapping under a key, if it is there; a key with nothing after it is a finding.
    pub fn optional_fields(&mut self, key: &'static str) -> Option<Fields<'_>> {
        let node = self.take(key)?;
        Fields::open(node, key, self.findings)
    }

    /// The findings, for what is not read by a method here.
    pub fn findings(&mut self) -> &mut Vec<Finding> {
        self.findings
    }

    /// Gives every entry not yet taken: for mappings whose keys are names.
    pub fn rest(&mut self) -> Vec<(Key, Node)> {
        std::mem::take(&mut self.entries)
    }

    /// Closes the mapping: every key that was not asked for is a finding.
    pub fn close(self) {
        for (key, _) in self.entries {
            let away = |known: &str| distance(&known.to_lowercase(), &key.text.to_lowercase());
            let nearest = self.known.iter().min_by_key(|known| away(known));
            let hint = match nearest {
                Some(nearest) if away(nearest) <= 2 => format!("did you mean {nearest:?}?"),
                _ => format!("{} has these: {}", self.what, self.known.join(", ")),
            };
            self.findings.push(Finding {
                message: format!("{} has no key {:?}", self.what, key.text),
                at: key.at,
                code: Code::UnknownKey,
                hint,
            });
        }
    }
}

/// Reads a node as a text; a number must be quoted, as Kubernetes would have it.
pub fn text(node: Node, what: &str, findings: &mut Vec<Finding>) -> Option<Located<String>> {
    match node.value {
        Value::Text(value) => Some(Located { at: node.at, value }),
        Value::Null | Value::Typed(_) | Value::List(_) | Value::Map(_) => {
            findings.push(wrong_type(&node.at, what, "a text", &node.value));
            None
        }
    }
}

/// Reads a node as a list.
pub fn list(node: Node, what: &str, findings: &mut Vec<Finding>) -> Option<Located<Vec<Node>>> {
    match node.value {
        Value::List(value) => Some(Located { at: node.at, value }),
        Value::Null | Value::Typed(_) | Value::Text(_) | Value::Map(_) => {
            findings.push(wrong_type(&node.at, what, "a list", &node.value));
            None
        }
    }
}

/// Reads a scalar by [`FromStr`].
pub fn parse<T: FromStr<Err: std::fmt::Display>>(
    node: Node,
    what: &str,
    findings: &mut Vec<Finding>,
) -> Option<Located<T>> {
    let text = match node.value {
        Value::Text(text) | Value::Typed(text) => text,
        Value::Null | Value::List(_) | Value::Map(_) => {
            findings.push(wrong_type(&node.at, what, "a single value", &node.value));
            return None;
        }
    };
    match text.parse() {
        Ok(value) => Some(Located { at: node.at, value }),
        Err(error) => {
            // Our own errors say what is wrong, a colon, and what to write instead.
            let said = error.to_string();
            let (wrong, hint) = match said.split_once(": ") {
                Some((wrong, hint)) => (wrong.to_owned(), hint.to_owned()),
                None => {
                    (format!("{text:?} will not do: {said}"), format!("{what} takes another kind of value"))
                }
            };
            findings.push(Finding {
                at: node.at,
                code: Code::BadValue,
                message: format!("{what}: {wrong}"),
                hint,
            });
            None
        }
    }
}

fn wrong_type(at: &Place, what: &str, wanted: &str, found: &Value) -> Finding {
    let hint = match found {
        Value::Typed(text) if wanted == "a text" => format!("write it in quotes: \"{text}\""),
        Value::Text(text) if wanted == "a list" => format!("write it in brackets: [{text}]"),
        Value::Null if wanted == "a list" => {
            format!("write {what}: [] for an empty list, or leave {what} out")
        }
        Value::Null | Value::Typed(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            format!("{what} takes {wanted}")
        }
    };
    Finding {
        at: at.clone(),
        code: Code::WrongType,
        message: format!("{what} must be {wanted}, and this is {}", found.name()),
        hint,
    }
}

/// Edit distance, to guess what was meant.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut previous = i + 1;
        let mut next = vec![previous];
        for (r, (&above_left, &above)) in right.chars().zip(row.iter().zip(row.iter().skip(1))) {
            previous = if l == r { above_left } else { 1 + above_left.min(above).min(previous) };
            next.push(previous);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
