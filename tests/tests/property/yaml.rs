//! Documents as trees, and every way to write one that means the same.

/// A YAML value that the tests write.
#[derive(Debug, Clone)]
pub(crate) enum Yaml {
    /// A text, always written in quotes.
    Text(String),
    /// A number, never in quotes.
    Number(u16),
    /// A list whose order means nothing.
    List(Vec<Yaml>),
    /// A mapping.
    Map(Vec<(&'static str, Yaml)>),
    /// A mapping whose keys are made up.
    Named(Vec<(String, Yaml)>),
}

impl Yaml {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// Writes a document; `dice` orders whatever has no order.
    pub(crate) fn document(&self, dice: &mut Dice) -> String {
        let Self::Map(entries) = self else { panic!("a document is a mapping") };
        let mut lines: Vec<String> =
            entries.iter().map(|(key, value)| format!("{key}: {}\n", value.flow(dice))).collect();
        dice.shuffle(&mut lines);
        lines.concat()
    }

    pub(crate) fn flow(&self, dice: &mut Dice) -> String {
        let entry = |key: &str, value: &Self, dice: &mut Dice| format!("{key}: {}", value.flow(dice));
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Number(number) => number.to_string(),
            Self::List(items) => {
                let mut items: Vec<String> = items.iter().map(|item| item.flow(dice)).collect();
                dice.shuffle(&mut items);
                format!("[{}]", items.join(", "))
            }
            Self::Map(entries) => {
                let mut entries: Vec<String> =
                    entries.iter().map(|(key, value)| entry(key, value, dice)).collect();
                dice.shuffle(&mut entries);
                format!("{{{}}}", entries.join(", "))
            }
            Self::Named(entries) => {
                let mut entries: Vec<String> =
                    entries.iter().map(|(key, value)| entry(key, value, dice)).collect();
                dice.shuffle(&mut entries);
                format!("{{{}}}", entries.join(", "))
            }
        }
    }
}

/// Makes orders out of a number: the same number, the same orders (xorshift64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Leaves everything as it is.
    pub(crate) fn still() -> Self {
        Self(0)
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let below = u64::try_from(index + 1).expect("a short list");
            let other =
                if self.0 == 0 { index } else { usize::try_from(self.0 % below).expect("a short list") };
            items.swap(index, other);
        }
    }
}
