//! Texts of others, as they may be shown.

/// A text without what moves a terminal's cursor or breaks a line: objects hold what anybody wrote there.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { out.extend(character.escape_default()) } else { out.push(character) }
    }
    out
}

/// A text of several lines, each without what moves a terminal's cursor.
pub(crate) fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}
