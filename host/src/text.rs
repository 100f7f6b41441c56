//! Texts of others, errors and times, as they may be shown.

use time::Duration;

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

/// An error and what caused it; many say no more than that there is a cause, or the cause's own text.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text += ": ";
            text += &next;
        }
        cause = error.source();
    }
    text
}

/// How long ago, in the two units that say most, as kubectl does it.
pub(crate) fn age(passed: Duration) -> String {
    let seconds = passed.whole_seconds().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: &str, rest: i64, smaller: &str| match rest {
        0 => format!("{large}{unit}"),
        rest => format!("{large}{unit}{rest}{smaller}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if days < 2 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{says}")]
    struct Because {
        says: &'static str,
        source: Option<Box<Because>>,
    }

    #[test]
    fn an_error_is_told_with_its_causes_each_once() {
        let because = |says, source: Option<Because>| Because { says, source: source.map(Box::new) };
        let closed = || because("the door is closed", None);
        let told = chain(&because("cannot come in", Some(because("nobody opens", Some(closed())))));
        assert_eq!(told, "cannot come in: nobody opens: the door is closed");
        let repeated = because("cannot come in: the door is closed", Some(closed()));
        assert_eq!(chain(&repeated), "cannot come in: the door is closed");
    }

    #[test]
    fn an_age_is_told_in_the_units_that_say_most() {
        let ages = [0, 119, 120, 599, 7200, 10_801, 36_000, 180_000, 700_000];
        let told = ages.map(|seconds| age(Duration::seconds(seconds)));
        assert_eq!(told, ["0s", "119s", "2m", "9m59s", "120m", "3h", "10h", "2d2h", "8d"]);
        assert_eq!(age(Duration::seconds(-5)), "0s", "clocks differ");
    }
}
