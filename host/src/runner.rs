//! Suites, run: which files there are, what they speak of, and every case over its whole path, on all cores.

mod collect;
mod envoy;
mod run;
#[cfg(test)]
mod tests;

pub use collect::{CollectError, Collection, Loaded, World, case_files, inputs};
pub use envoy::{LabOptions, LabRunError, on_envoy};
pub use run::{Failure, Job, Options, Tested, run};

impl Collection {
    /// The cases that are wanted, in the order of the files; without words, all of them.
    ///
    /// A case is wanted if its name, or that of its suite, has one of the words in it.
    pub fn jobs(&self, words: &[String]) -> Vec<Job<'_>> {
        let has = |text: &str| words.iter().any(|word| text.contains(word.as_str()));
        let mut jobs = Vec::new();
        for suite in &self.suites {
            let Some(world) = self.worlds.get(suite.world) else { continue };
            let whole = words.is_empty() || has(&suite.suite.name);
            let cases = suite.suite.cases.iter().filter(|case| whole || has(&case.name.value));
            jobs.extend(cases.map(|case| Job { suite, world, case }));
        }
        jobs
    }
}
