//! Line by line: what is the same, what differs, and which differences are explained.

/// An observation in which the two do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) scenario: String,
    /// What was asked: the line up to its answer.
    pub(super) line: String,
    pub(super) envoy: String,
    pub(super) sandbox: String,
}

/// A row of the table in docs/sandbox-differences.md. In its first two columns `*` stands for anything.
#[derive(Debug)]
pub(super) struct Row(Difference);

/// What a side says of a line that only the other has.
const ABSENT: &str = "not called";

/// What one of these lines answers is never the same twice: the clock, and numbers that Envoy counts up.
const BY_NATURE: [&str; 7] = [
    "get_current_time_nanoseconds(",
    "get_property(request.time)",
    "get_property(request.duration)",
    "get_property(response.backend_latency)",
    "get_property(connection.id)",
    "get_property(connection_id)",
    "get_property(upstream.local_address)",
];

/// The lines in which the two differ, in order.
pub(super) fn differences(scenario: &str, envoy: &[String], sandbox: &[String]) -> Vec<Difference> {
    let difference = |line: &str, envoy: &str, sandbox: &str| Difference {
        scenario: scenario.to_owned(),
        line: line.to_owned(),
        envoy: envoy.to_owned(),
        sandbox: sandbox.to_owned(),
    };
    let [theirs, ours] = [envoy, sandbox].map(|lines| {
        let parted = numbered(lines);
        parted.iter().map(|line| parts(line)).collect::<Vec<_>>()
    });
    let mut found = Vec::new();
    for (one, other) in aligned(&theirs, &ours) {
        match (one, other) {
            (Some((line, envoy)), Some((_, sandbox))) if envoy != sandbox => {
                found.push(difference(line, envoy, sandbox));
            }
            (Some((line, envoy)), None) => found.push(difference(line, envoy, ABSENT)),
            (None, Some((line, sandbox))) => found.push(difference(line, ABSENT, sandbox)),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    found
}

/// The same lines with queues numbered as they appear: Envoy numbers those of all scenarios together.
fn numbered(lines: &[String]) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    let mut number = |line: &String| {
        let asked = line.contains("_shared_queue(") && line.contains(") -> 0 ");
        if !asked && !line.contains("queue_ready: ") || line.contains("dequeue_shared_queue(") {
            return line.clone();
        }
        let Some((before, token)) = line.rsplit_once(' ') else { return line.clone() };
        let at = known.iter().position(|known| known == token).unwrap_or_else(|| {
            known.push(token.to_owned());
            known.len() - 1
        });
        format!("{before} queue-{at}")
    };
    lines.iter().map(&mut number).collect()
}

/// What was asked and what was answered.
fn parts(line: &str) -> (String, String) {
    let parted = line.split_once(" -> ").or_else(|| line.split_once(": "));
    let (asked, answered) = parted.unwrap_or((line, ""));
    let answered = if BY_NATURE.iter().any(|name| asked.contains(name)) {
        answered.split_once(' ').map_or(answered, |(status, _)| status)
    } else {
        answered
    };
    // What signs by ECDSA draws a number each time; these scripts ask for that with the text first, and for no RSA.
    let answered = match asked.contains("\"sign\", message[3=") && answered.starts_with("0 \"\\x08\\x01") {
        true => "0 signed",
        false => answered,
    };
    // The number of a write is counted for the whole process.
    let answered = if asked.contains("get_shared_data(") {
        answered.rsplit_once(' ').map_or(answered, |(value, _)| value)
    } else {
        answered
    };
    (asked.to_owned(), undated(answered))
}

/// A date as HTTP writes it is always another one.
fn undated(text: &str) -> String {
    let parted = text.split_once(" GMT").and_then(|(before, after)| {
        Some((before.get(..before.len().checked_sub("Sat, 21 Nov 2026 12:00:00".len())?)?, after))
    });
    parted.map_or_else(|| text.to_owned(), |(before, after)| format!("{before}<date>{after}"))
}

type Parts = (String, String);
type Pair<'a> = (Option<(&'a str, &'a str)>, Option<(&'a str, &'a str)>);

/// Pairs the lines that ask the same, by the longest common subsequence of what is asked.
fn aligned<'a>(one: &'a [Parts], other: &'a [Parts]) -> Vec<Pair<'a>> {
    let mut common = vec![vec![0_u32; other.len() + 1]; one.len() + 1];
    for (i, a) in one.iter().enumerate().rev() {
        for (j, b) in other.iter().enumerate().rev() {
            common[i][j] =
                if a.0 == b.0 { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let text = |parts: &'a Parts| (parts.0.as_str(), parts.1.as_str());
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < one.len() || j < other.len() {
        if i < one.len() && j < other.len() && one[i].0 == other[j].0 {
            pairs.push((Some(text(&one[i])), Some(text(&other[j]))));
            (i, j) = (i + 1, j + 1);
        } else if j == other.len() || (i < one.len() && common[i + 1][j] >= common[i][j + 1]) {
            pairs.push((Some(text(&one[i])), None));
            i += 1;
        } else {
            pairs.push((None, Some(text(&other[j]))));
            j += 1;
        }
    }
    pairs
}

/// The rows of the table of a page.
pub(super) fn rows(markdown: &str) -> Vec<Row> {
    let rows = markdown.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let line = line.replace("\\|", "\u{1}");
        let cells: Vec<String> = line
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').replace('\u{1}', "|"))
            .collect();
        let [scenario, line, envoy, sandbox, why] = &cells[..] else { panic!("not five cells: {cells:?}") };
        assert!(why.len() > 20, "no reason: {cells:?}");
        let [scenario, line, envoy, sandbox] = [scenario, line, envoy, sandbox].map(Clone::clone);
        Row(Difference { scenario, line, envoy, sandbox })
    })
    .collect()
}

/// The differences that no row explains and, where every scenario was played, the rows that explain none.
pub(super) fn unexplained(rows: &[Row], found: &[Difference], all: bool) -> Vec<String> {
    let missing = found.iter().filter(|found| !rows.iter().any(|row| row.explains(found)));
    let newest = |row: &&Row| !row.0.scenario.contains(' ');
    let unused =
        rows.iter().filter(newest).filter(|row| all && !found.iter().any(|found| row.explains(found)));
    missing
        .map(|found| found.shown("not explained"))
        .chain(unused.map(|row| row.0.shown("explains nothing")))
        .collect()
}

impl Row {
    fn explains(&self, found: &Difference) -> bool {
        let Self(row) = self;
        // What the newest Envoy does an older one may do too.
        let bare = found.scenario.split_once(' ').map_or(found.scenario.as_str(), |(_, name)| name);
        (fits(&row.scenario, &found.scenario) || fits(&row.scenario, bare))
            && fits(&row.line, &found.line)
            && (&row.envoy, &row.sandbox) == (&found.envoy, &found.sandbox)
    }
}

impl Difference {
    /// As a row of the table.
    fn shown(&self, why: &str) -> String {
        let cells = [&self.scenario, &self.line, &self.envoy, &self.sandbox];
        let cells: Vec<String> = cells.iter().map(|cell| format!("`{}`", cell.replace('|', "\\|"))).collect();
        format!("| {} | {why} |", cells.join(" | "))
    }
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| fits(after, rest)))
        }),
    }
}

#[test]
fn a_missing_line_and_another_answer_are_found_and_the_clock_is_let_pass() {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let envoy = lines(&["log: 2", "log: a() -> 0 \"x\"", "log: get_current_time_nanoseconds() -> 0 7"]);
    let sandbox = lines(&["log: a() -> 1", "log: get_current_time_nanoseconds() -> 0 8", "done: 2"]);
    let found: Vec<String> = differences("s", &envoy, &sandbox).iter().map(|found| found.shown("")).collect();
    let expected = [
        "| `s` | `log` | `2` | `not called` |  |",
        "| `s` | `log: a()` | `0 \"x\"` | `1` |  |",
        "| `s` | `done` | `not called` | `2` |  |",
    ];
    assert_eq!(found, expected);
}
