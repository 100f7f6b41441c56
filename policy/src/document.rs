//! YAML text as a tree in which every key and value knows its place.
//!
//! Serde stops at the first mistake; a person wants all of them. So files are read into this tree and taken
//! apart by [`Fields`], which notes what is wrong and goes on.

mod fields;

pub use fields::{Fields, list, parse, text};

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

#[cfg(test)]
mod tests;
