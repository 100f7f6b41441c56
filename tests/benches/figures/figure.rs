//! Figures: what was measured, against its goal.

use serde_json::{Value, json};

/// Every figure that was measured, and why others were not.
#[derive(Debug, Default)]
pub(super) struct Report {
    figures: Vec<Value>,
    absent: Vec<String>,
}

impl Report {
    /// A figure without a goal.
    pub(super) fn put(&mut self, name: &str, value: f64, unit: &str) {
        self.add(name, value, unit, (Value::Null, Value::Null));
    }

    /// A figure that meets its goal from below.
    pub(super) fn at_most(&mut self, name: &str, value: f64, unit: &str, goal: f64) {
        self.add(name, value, unit, (json!(goal), json!(value <= goal)));
    }

    /// A figure that meets its goal from above.
    pub(super) fn at_least(&mut self, name: &str, value: f64, unit: &str, goal: f64) {
        self.add(name, value, unit, (json!(goal), json!(value >= goal)));
    }

    /// Something that cannot be measured here, and why.
    pub(super) fn lacks(&mut self, what: &str, why: &dyn std::fmt::Display) {
        self.absent.push(format!("{what}: {why}"));
    }

    fn add(&mut self, name: &str, value: f64, unit: &str, (goal, meets): (Value, Value)) {
        self.figures.push(json!({"name": name, "value": value, "unit": unit, "goal": goal, "meets": meets}));
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let rows = self.figures.iter().map(|entry| {
            format!(
                "{:42} {:>16} {:6} goal {:>10}  {}\n",
                text(entry, "name"),
                shown(entry, "value"),
                text(entry, "unit"),
                shown(entry, "goal"),
                text(entry, "meets")
            )
        });
        let absent = self.absent.iter().map(|line| format!("not measured: {line}\n"));
        let on = format!("on {}\n", machine());
        rows.chain(absent).chain([on]).collect()
    }

    /// The same for programs.
    pub(super) fn json(&self) -> String {
        let report = json!({"machine": machine(), "figures": self.figures, "absent": self.absent});
        format!("{report:#}\n")
    }
}

/// The middle of what was measured.
pub(super) fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn text(entry: &Value, key: &str) -> String {
    match &entry[key] {
        Value::Bool(true) => "meets".to_owned(),
        Value::Bool(false) => "short".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn shown(entry: &Value, key: &str) -> String {
    let Some(value) = entry[key].as_f64() else { return "-".to_owned() };
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} x {}", cores, model.unwrap_or(std::env::consts::ARCH))
}
