//! `make bench`: the figures, as a table and in `target/bench.json`. What is not measured is absent.
//!
//! `cargo bench -p isthmus-tests --bench figures -- filter path` measures those groups alone, named by any part of
//! their names.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table is what this is for")]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot run has nothing to say"
)]

mod certificates;
mod change;
mod clusters;
mod compile;
mod evaluate;
mod figure;
mod filter;
mod ground;
mod l4;
mod listener;
mod load;
mod memory;
mod path;
mod proxy;
mod reload;
mod rollout;
mod rounds;
mod sandbox;
mod suite;
mod variant;
mod world;

use std::path::PathBuf;

use figure::Report;
use ground::Missing;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
type Group = fn(&mut Report) -> Outcome<()>;

const GROUPS: [(&str, Group); 12] = [
    ("compile", compile::plans),
    ("evaluate", evaluate::verdicts),
    ("sandbox", sandbox::requests),
    ("suite", suite::seconds),
    ("filter.http", filter::requests),
    ("filter.l4", l4::connections),
    ("filter.memory", memory::resident),
    ("path", path::throughput),
    ("reload", reload::changes),
    ("clusters.looked_at", clusters::looked_at),
    ("clusters.rolled_out_to", rollout::figures),
    ("clusters.changed", change::in_force),
];

fn main() -> Outcome<()> {
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let [mode, clusters] = chosen.as_slice()
        && mode == rollout::ALONE
    {
        return rollout::alone(clusters.parse()?);
    }
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str()));
    if !GROUPS.iter().any(|(name, _)| is_chosen(name)) {
        let names = GROUPS.map(|(name, _)| name).join(", ");
        return Err(format!("no group is named {}; there are: {names}", chosen.join(", ")).into());
    }
    let mut report = Report::default();
    let mut failures = Vec::new();
    for (name, group) in GROUPS.iter().filter(|(name, _)| is_chosen(name)) {
        eprintln!("{name} ...");
        match group(&mut report) {
            Ok(()) => {}
            Err(error) => match error.downcast_ref::<Missing>() {
                Some(missing) => report.lacks(name, missing),
                None => failures.push(format!("{name}: {error}")),
            },
        }
    }
    print!("{}", report.table());
    std::fs::write(isthmus_tests::repository().join("target/bench.json"), report.json())?;
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

/// The module that is measured.
fn module() -> PathBuf {
    isthmus_tests::example::module()
}
