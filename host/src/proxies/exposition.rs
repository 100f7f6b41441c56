//! The text format of Prometheus, as much of it as Envoy writes: a sample a line, comments between.

use std::borrow::Cow;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample<'t> {
    /// What is measured.
    pub(super) name: &'t str,
    /// Of what, in the order in which it stands there.
    pub(super) labels: Vec<(&'t str, Cow<'t, str>)>,
    /// How much.
    pub(super) value: f64,
}

impl Sample<'_> {
    /// The value of a label.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }
}

/// A line that is neither a sample nor a comment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not of the text format of Prometheus: {why}")]
pub struct ExpositionError {
    line: usize,
    why: &'static str,
}

/// The samples of an answer, one after the other: whoever answers may say millions, and none but the one that is looked at is
/// held. An answer of which a line is none is no answer.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Result<Sample<'_>, ExpositionError>> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| sample(line).map_err(|why| ExpositionError { line: number, why }))
}

/// `name{label="value",...} value timestamp`, the timestamp if there is one.
fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let end = line.find(|c: char| !is_of_a_name(c)).ok_or("it ends after a name")?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("it does not begin with a name");
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().and_then(|word| word.parse().ok()).ok_or("its value is no number")?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Sample { name, labels, value }),
        (Some(time), None) if time.parse::<i64>().is_ok() => Ok(Sample { name, labels, value }),
        _ => Err("something follows its value"),
    }
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

type Labels<'t> = Vec<(&'t str, Cow<'t, str>)>;

/// What stands between braces, and what follows them.
fn labels(mut rest: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once("=\"").ok_or("a label has no value in quotes")?;
        if name.is_empty() || !name.chars().all(is_of_a_name) {
            return Err("a label has no name");
        }
        let (value, after) = quoted(after).ok_or("the value of a label does not end")?;
        labels.push((name, value));
        rest = match after.strip_prefix(',') {
            Some(next) => next,
            None if after.starts_with('}') => after,
            None => return Err("a label is followed by something else"),
        };
    }
}

/// A value up to its closing quote, and what follows that.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    let (plain, rest) = text.split_at(end);
    if let Some(rest) = rest.strip_prefix('"') {
        return Some((Cow::Borrowed(plain), rest));
    }
    let mut value = plain.to_owned();
    let mut rest = rest.chars();
    loop {
        match rest.next()? {
            '"' => return Some((Cow::Owned(value), rest.as_str())),
            '\\' => value.push(match rest.next()? {
                'n' => '\n',
                escaped => escaped,
            }),
            plain => value.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels_and_comments_are_passed_over() {
        let text = "# TYPE up gauge\nup 1\n\nrq{class=\"5\",prefix=\"in\\\"bo\\\\und\\n\"} 2.5 1700000000\nplan_info{} 157410554525162\nleft{a=\"b\",} +Inf\n";
        let samples: Vec<Sample<'_>> = samples(text).collect::<Result<_, _>>().expect("samples");
        let names: Vec<&str> = samples.iter().map(|sample| sample.name).collect();
        assert_eq!(names, ["up", "rq", "plan_info", "left"]);
        let [up, rq, plan, left] = samples.as_slice() else { panic!("{samples:?}") };
        assert_eq!(
            (up.value, rq.value, plan.value, left.value),
            (1.0, 2.5, 157_410_554_525_162.0, f64::INFINITY)
        );
        assert_eq!((rq.label("class"), rq.label("prefix")), (Some("5"), Some("in\"bo\\und\n")));
        assert_eq!((left.label("a"), left.label("c")), (Some("b"), None));
    }

    #[test]
    fn what_is_not_of_the_format_is_refused_with_its_line() {
        for wrong in [
            "<html>",
            "name",
            "name word",
            "9name 1",
            "name{a=\"b\" 1",
            "name{a=\"b} 1",
            "name{a=b} 1",
            "name{=\"b\"} 1",
            "name{a=\"b\"c=\"d\"} 1",
            "name 1 2 3",
            "name 1 soon",
            "{a=\"b\"} 1",
        ] {
            let text = format!("up 1\n{wrong}\n");
            let error = samples(&text).collect::<Result<Vec<_>, _>>().expect_err(wrong);
            assert!(error.to_string().starts_with("line 2 "), "{error}");
        }
    }
}
