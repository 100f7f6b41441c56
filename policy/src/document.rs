//! YAML text as a tree in which every key and value knows its place.
//!
//! Serde stops at the first mistake; a person wants all of them. So files are read into this tree and taken
//! apart by [`Fields`], which notes what is wrong and goes on.

use std::str::FromStr;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::finding::{Code, Finding, Place};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where the value starts.
    pub at: Place,
    /// The value.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: `~`, `null`, or no text at all.
    Null,
    /// A plain scalar that YAML reads as a truth value or a number.
    Typed(String),
    /// A text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
}

impl Value {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Typed(_) => "a number or truth value",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A key of a mapping and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where the key starts.
    pub at: Place,
    /// The key.
    pub text: String,
}

/// A value with the place that a finding about it points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// Where it was written.
    pub at: Place,
    /// What was written.
    pub value: T,
}

/// Reads all YAML documents of a text; empty ones are left out.
///
/// What cannot be read is noted in `findings`; the documents before it are given.
pub fn read(file: &str, text: &str, findings: &mut Vec<Finding>) -> Vec<Node> {
    let mut builder = Builder { file: file.into(), findings, open: Vec::new(), documents: Vec::new() };
    for event in Parser::new_from_str(text) {
        let step = event
            .map_err(|error| builder.broken(&error))
            .and_then(|(event, span)| builder.take(event, &span));
        if let Err(finding) = step {
            builder.findings.push(finding);
            break;
        }
    }
    builder.documents
}

/// A collection that has begun and not ended.
enum Open {
    List(Place, Vec<Node>),
    Map(Place, Vec<(Key, Node)>, Option<Key>),
}

struct Builder<'a> {
    file: Arc<str>,
    findings: &'a mut Vec<Finding>,
    open: Vec<Open>,
    documents: Vec<Node>,
}

impl Builder<'_> {
    fn place(&self, span: &Span) -> Place {
        let width = if span.start.line() == span.end.line() {
            span.end.col().saturating_sub(span.start.col())
        } else {
            1
        };
        Place {
            file: Arc::clone(&self.file),
            line: span.start.line(),
            column: span.start.col() + 1,
            width: width.max(1),
        }
    }

    fn broken(&self, error: &ScanError) -> Finding {
        let marker = *error.marker();
        Finding {
            at: self.place(&Span::empty(marker)),
            code: Code::Syntax,
            message: format!("this is not YAML: {}", error.info()),
            hint: "check the indentation and the quotes of this line and the one before".to_owned(),
        }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Finding> {
        let at = self.place(span);
        match event {
            Event::Scalar(text, style, ..) => {
                let value = scalar(&text, style);
                self.put(at, value)
            }
            Event::SequenceStart(..) => {
                self.open.push(Open::List(at, Vec::new()));
                Ok(())
            }
            Event::MappingStart(..) => {
                self.open.push(Open::Map(at, Vec::new(), None));
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(at, nodes)) => self.put(at, Value::List(nodes)),
                Some(Open::Map(at, entries, _)) => self.put(at, Value::Map(entries)),
                None => Ok(()),
            },
            Event::Alias(..) | Event::UnresolvedAlias(..) => Err(Finding {
                at,
                code: Code::Syntax,
                message: "aliases are not taken: a reader must see what a policy says where it says it"
                    .to_owned(),
                hint: "write the value out".to_owned(),
            }),
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Anchor(..)
            | _ => Ok(()), // no nodes; nor is whatever a later parser adds without our asking
        }
    }

    fn put(&mut self, at: Place, value: Value) -> Result<(), Finding> {
        let node = Node { at, value };
        match self.open.last_mut() {
            None if node.value == Value::Null => {}
            None => self.documents.push(node),
            Some(Open::List(_, nodes)) => nodes.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(key_of(node)?),
            },
        }
        Ok(())
    }
}

fn key_of(node: Node) -> Result<Key, Finding> {
    match node.value {
        Value::Text(text) | Value::Typed(text) => Ok(Key { at: node.at, text }),
        Value::Null | Value::List(_) | Value::Map(_) => Err(Finding {
            message: format!("a key must be a text, and this is {}", node.value.name()),
            at: node.at,
            code: Code::Syntax,
            hint: "write the key as plain text before the colon".to_owned(),
        }),
    }
}

/// What a scalar means by the core schema of YAML 1.2, which Kubernetes' own reader widens by yes, no, on, off.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text.to_ascii_lowercase().as_str() {
        "" | "~" | "null" => Value::Null,
        "true" | "false" | "yes" | "no" | "on" | "off" | ".inf" | ".nan" => Value::Typed(text.to_owned()),
        lower if lower.parse::<f64>().is_ok() || lower.starts_with("0x") || lower.starts_with("0o") => {
            Value::Typed(text.to_owned())
        }
        _ => Value::Text(text.to_owned()),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn findings_of(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        for node in read("a.yaml", text, &mut findings) {
            let Some(mut fields) = Fields::open(node, "thing", &mut findings) else { continue };
            fields.required_value::<u16>("port");
            fields.optional_values::<crate::pattern::Pattern>("clusters");
            fields.close();
        }
        findings.iter().map(|finding| format!("{finding}; {}", finding.hint)).collect()
    }

    #[test]
    fn all_mistakes_are_found_in_one_run_each_in_its_place() {
        let text = "port: x\nclutsers: [a]\nport: 3\nclusters: [a*b, b]\n";
        assert_eq!(
            findings_of(text),
            [
                "a.yaml:3:1: error[ISM007]: key \"port\" stands twice in this thing; the first is in line 1; keep one of them",
                "a.yaml:1:7: error[ISM005]: port: \"x\" will not do: invalid digit found in string; port takes another kind of value",
                "a.yaml:4:12: error[ISM005]: clusters: \"a*b\" is not a pattern; write an exact value, prefix*, *suffix or *",
                "a.yaml:2:1: error[ISM002]: thing has no key \"clutsers\"; did you mean \"clusters\"?",
            ]
        );
    }

    #[test]
    fn what_is_not_yaml_points_at_its_line() {
        let found = findings_of("port: 1\n  clusters: [\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("a.yaml:2:"), "{found:?}");
    }

    #[test]
    fn aliases_are_refused_and_cannot_blow_up() {
        let found = findings_of("port: &a 1\nclusters: [*a, *a]\n");
        assert!(found[0].contains("a.yaml:2:12: error[ISM001]: aliases are not taken"), "{found:?}");
    }

    #[test]
    fn documents_are_read_apart_and_empty_ones_left_out() {
        let mut findings = Vec::new();
        let nodes = read("a.yaml", "---\n---\na: 1\n---\n# nothing\n---\nb: 2\n", &mut findings);
        assert_eq!((nodes.len(), findings), (2, vec![]));
        assert_eq!((nodes[1].at.line, nodes[1].at.column), (7, 1));
    }
}
