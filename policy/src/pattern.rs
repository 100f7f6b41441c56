//! Patterns over text: exact, `prefix*`, `*suffix` or `*`, as in Istio's AuthorizationPolicy.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text is not a pattern: a star stands where none may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pattern: write an exact value, prefix*, *suffix or *")]
pub struct PatternError(String);

/// One value, all values that begin or end alike, or every value.
///
/// ```
/// use policy::pattern::Pattern;
/// let staging: Pattern = "staging-*".parse()?;
/// assert!(staging.matches("staging-eu") && !staging.matches("eu-staging"));
/// assert!("st*ging".parse::<Pattern>().is_err());
/// # Ok::<(), policy::pattern::PatternError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// Every value, the empty one included.
    Any,
    /// This value alone.
    Exact(String),
    /// Every value that begins so.
    Prefix(String),
    /// Every value that ends so.
    Suffix(String),
}

impl Pattern {
    /// Whether the pattern holds of `text`.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
        }
    }

    /// The text that values are compared with; nothing where every value will do.
    pub fn text(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => text,
        }
    }

    /// Whether every value that this takes in is taken in by another.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Any) => true,
            (Self::Exact(text), _) => other.matches(text),
            (Self::Prefix(inner), Self::Prefix(outer)) => inner.starts_with(outer.as_str()),
            (Self::Suffix(inner), Self::Suffix(outer)) => inner.ends_with(outer.as_str()),
            (Self::Any | Self::Prefix(_) | Self::Suffix(_), _) => false,
        }
    }

    /// Whether no value can be taken in by both.
    pub fn is_apart_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(text), pattern) | (pattern, Self::Exact(text)) => !pattern.matches(text),
            (Self::Prefix(one), Self::Prefix(two)) => {
                !one.starts_with(two.as_str()) && !two.starts_with(one.as_str())
            }
            (Self::Suffix(one), Self::Suffix(two)) => {
                !one.ends_with(two.as_str()) && !two.ends_with(one.as_str())
            }
            (Self::Any, _)
            | (_, Self::Any)
            | (Self::Prefix(_), Self::Suffix(_))
            | (Self::Suffix(_), Self::Prefix(_)) => false,
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let pattern = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            _ if text == "*" => return Ok(Self::Any),
            (Some(suffix), _) => Self::Suffix(suffix.to_owned()),
            (None, Some(prefix)) => Self::Prefix(prefix.to_owned()),
            (None, None) => Self::Exact(text.to_owned()),
        };
        match &pattern {
            Self::Exact(rest) | Self::Prefix(rest) | Self::Suffix(rest)
                if rest.contains('*') || rest.is_empty() =>
            {
                Err(PatternError(text.to_owned()))
            }
            Self::Any | Self::Exact(_) | Self::Prefix(_) | Self::Suffix(_) => Ok(pattern),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("*"),
            Self::Exact(text) => out.write_str(text),
            Self::Prefix(text) => write!(out, "{text}*"),
            Self::Suffix(text) => write!(out, "*{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_print_as_they_were_read() {
        for text in ["*", "eu-1", "eu-*", "*-eu", "/v1/*"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_star_elsewhere_passes_nowhere() {
        for text in ["", "**", "a*b", "*a*", "a**"] {
            assert_eq!(text.parse::<Pattern>(), Err(PatternError(text.to_owned())));
        }
    }
}
