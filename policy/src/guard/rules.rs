//! Many rules, asked as if they were few: by what a request is, not one after the other.
//!
//! Each rule is filed under the values of one of its fields, of the one whose values the fewest other rules have.
//! A request then looks at the rules filed under its own values and at no others. A rule that has no such field
//! is asked every time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::facts::{Effect, Facts, Field};
use crate::pattern::Pattern;
use crate::plan::{Clause, Rule, Section};

/// So few rules are asked one after the other sooner than they are looked up.
const FEW: usize = 8;
/// A field with more values than this would be filed under too many of them.
const MOST_VALUES: usize = 64;

/// Where a rule stands: the number of its section among those of the judge, and its own in that section.
pub(crate) type Line = (usize, usize);

/// The rules of one effect in one group of sections, in the order in which they give reasons.
#[derive(Debug)]
pub(crate) struct Rules {
    effect: Effect,
    lines: Vec<Line>,
    index: Option<Index>,
}

/// Rules by the values of their fields.
#[derive(Debug, Default)]
pub(crate) struct Index {
    // Numbers of lines, ascending.
    clusters: Vec<Vec<usize>>,
    namespaces: Values,
    principals: Values,
    paths: Values,
    hosts: Values,
    rest: Vec<usize>,
}

/// Lines by the values that their patterns take in.
#[derive(Debug, Default)]
struct Values {
    exact: BTreeMap<String, Vec<usize>>,
    // By length, since a value begins with one text of each length.
    prefix: BTreeMap<usize, BTreeMap<String, Vec<usize>>>,
    suffix: BTreeMap<usize, BTreeMap<String, Vec<usize>>>,
}

/// The values by which rules are looked up.
#[derive(Debug, Default)]
pub(crate) struct Probe<'v> {
    cluster: Option<usize>,
    namespace: Option<&'v str>,
    principal: Option<&'v str>,
    path: Option<&'v str>,
    host: Option<&'v str>,
}

impl<'v> Probe<'v> {
    fn of(facts: &'v Facts<'_>) -> Self {
        Self {
            cluster: facts.source.location().map(|location| location.number),
            namespace: facts.namespace,
            principal: facts.principal.as_deref(),
            path: facts.path.as_deref(),
            host: facts.host.as_deref(),
        }
    }

    /// What finds every rule that takes in all that one does: a clause that takes in another's first pattern is
    /// filed under a value that the text of that pattern finds.
    pub(crate) fn covering(rule: &'v Rule) -> Self {
        fn text(clause: Option<&Clause<Pattern>>) -> Option<&str> {
            clause?.any.iter().next().map(Pattern::text)
        }
        let (from, to) = (rule.from.iter().next(), rule.to.iter().next());
        Self {
            cluster: from.and_then(|from| from.clusters.iter().next()),
            namespace: text(from.map(|from| &from.namespaces)),
            principal: text(from.map(|from| &from.principals)),
            path: text(to.map(|to| &to.paths)),
            host: text(to.map(|to| &to.hosts)),
        }
    }
}

/// A value under which a rule can be filed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'r> {
    Cluster(usize),
    Pattern(Field, &'r Pattern),
}

fn rules_of(section: &Section, effect: Effect) -> &[Rule] {
    match effect {
        Effect::Deny => &section.deny,
        Effect::Allow => section.allow.as_deref().unwrap_or_default(),
    }
}

fn rule(sections: &[Arc<Section>], effect: Effect, (section, rule): Line) -> Option<&Rule> {
    rules_of(sections.get(section)?, effect).get(rule)
}

impl Rules {
    pub(super) fn new(
        sections: &[Arc<Section>],
        effect: Effect,
        clusters: usize,
        of_group: impl Fn(&Arc<Section>) -> bool,
    ) -> Self {
        let lines: Vec<Line> = sections
            .iter()
            .enumerate()
            .filter(|(_, section)| of_group(section))
            .flat_map(|(at, section)| (0..rules_of(section, effect).len()).map(move |rule| (at, rule)))
            .collect();
        let index = (lines.len() > FEW).then(|| {
            let rules: Vec<&Rule> = lines.iter().filter_map(|line| rule(sections, effect, *line)).collect();
            Index::new(&rules, clusters)
        });
        Self { effect, lines, index }
    }

    /// The first rule that holds.
    pub(crate) fn first<'s>(
        &self,
        sections: &'s [Arc<Section>],
        facts: &Facts<'_>,
    ) -> Option<(Line, &'s Rule)> {
        let ask = |line: Line| {
            rule(sections, self.effect, line)
                .filter(|rule| rule.holds(facts, self.effect))
                .map(|rule| (line, rule))
        };
        // What is not known holds in whatever denies: then no rule is passed over for a value it has.
        let index = self.index.as_ref().filter(|_| self.effect == Effect::Allow || facts.complete);
        let Some(index) = index else {
            return self.lines.iter().find_map(|line| ask(*line));
        };
        let mut found: Option<(Line, &'s Rule)> = None;
        for list in index.lists(&Probe::of(facts)) {
            let lines = list.iter().filter_map(|at| self.lines.get(*at));
            let mut earlier = lines.take_while(|line| found.is_none_or(|(first, _)| **line < first));
            if let Some(first) = earlier.find_map(|line| ask(*line)) {
                found = Some(first);
            }
        }
        found
    }
}

impl Index {
    /// Files rules of a mesh of so many clusters.
    pub(crate) fn new(rules: &[&Rule], clusters: usize) -> Self {
        let choices: Vec<Vec<Vec<Key<'_>>>> = rules.iter().map(|rule| choices(rule, clusters)).collect();
        let mut common: BTreeMap<&Key<'_>, usize> = BTreeMap::new();
        for key in choices.iter().flatten().flatten() {
            *common.entry(key).or_default() += 1;
        }
        let cost = |keys: &Vec<Key<'_>>| keys.iter().filter_map(|key| common.get(key)).sum::<usize>();
        let mut index = Self { clusters: vec![Vec::new(); clusters], ..Self::default() };
        for (line, choices) in choices.iter().enumerate() {
            match choices.iter().min_by_key(|keys| cost(keys)) {
                Some(keys) => keys.iter().for_each(|key| index.file(key, line)),
                None => index.rest.push(line),
            }
        }
        index
    }

    fn file(&mut self, key: &Key<'_>, line: usize) {
        let list = match key {
            Key::Cluster(cluster) => self.clusters.get_mut(*cluster),
            Key::Pattern(field, pattern) => self.values(*field).and_then(|values| values.list(pattern)),
        };
        match list {
            Some(list) if list.last() == Some(&line) => {}
            Some(list) => list.push(line),
            None => self.rest.push(line),
        }
    }

    fn values(&mut self, field: Field) -> Option<&mut Values> {
        match field {
            Field::Namespaces => Some(&mut self.namespaces),
            Field::Principals => Some(&mut self.principals),
            Field::Paths => Some(&mut self.paths),
            Field::Hosts => Some(&mut self.hosts),
            Field::Clusters | Field::TrustDomains | Field::Ports | Field::Methods => None,
        }
    }

    /// The lists in which every rule that can hold stands, by number, each ascending.
    pub(crate) fn lists<'i>(&'i self, probe: &Probe<'i>) -> impl Iterator<Item = &'i [usize]> {
        let cluster = probe.cluster.and_then(|cluster| self.clusters.get(cluster));
        let by_value = [
            (&self.namespaces, probe.namespace),
            (&self.principals, probe.principal),
            (&self.paths, probe.path),
            (&self.hosts, probe.host),
        ];
        let by_value = by_value
            .into_iter()
            .flat_map(|(values, value)| value.into_iter().flat_map(move |value| values.lists(value)));
        [&self.rest].into_iter().chain(cluster).map(Vec::as_slice).chain(by_value)
    }
}

/// The ways in which a rule could be filed: for a field that each of its sources, or each of its requests, says,
/// all values of it.
fn choices(rule: &Rule, clusters: usize) -> Vec<Vec<Key<'_>>> {
    fn keys<'r, T: 'r>(
        field: Field,
        parts: &'r crate::set::Set<T>,
        clause: fn(&T) -> &Clause<Pattern>,
    ) -> Option<Vec<Key<'r>>> {
        let mut keys = Vec::new();
        for part in parts {
            let patterns = &clause(part).any;
            if patterns.is_empty() || patterns.contains(&Pattern::Any) {
                return None;
            }
            keys.extend(patterns.iter().map(|pattern| Key::Pattern(field, pattern)));
        }
        (1..=MOST_VALUES).contains(&keys.len()).then_some(keys)
    }
    let from = rule.from.iter().flat_map(|from| from.clusters.iter());
    let from: Vec<Key<'_>> = from.map(Key::Cluster).collect();
    let few = (1..=MOST_VALUES).contains(&from.len()) && from.len() <= clusters.div_ceil(2);
    let fields = [
        keys(Field::Principals, &rule.from, |from| &from.principals),
        keys(Field::Paths, &rule.to, |to| &to.paths),
        keys(Field::Namespaces, &rule.from, |from| &from.namespaces),
        keys(Field::Hosts, &rule.to, |to| &to.hosts),
        few.then_some(from),
    ];
    fields.into_iter().flatten().collect()
}

impl Values {
    fn list(&mut self, pattern: &Pattern) -> Option<&mut Vec<usize>> {
        let (texts, text) = match pattern {
            Pattern::Any => return None,
            Pattern::Exact(text) => (&mut self.exact, text),
            Pattern::Prefix(text) => (self.prefix.entry(text.len()).or_default(), text),
            Pattern::Suffix(text) => (self.suffix.entry(text.len()).or_default(), text),
        };
        Some(texts.entry(text.clone()).or_default())
    }

    fn lists<'v>(&'v self, value: &'v str) -> impl Iterator<Item = &'v [usize]> {
        let prefixes = self.prefix.iter().filter_map(|(length, texts)| texts.get(value.get(..*length)?));
        let suffixes = self
            .suffix
            .iter()
            .filter_map(|(length, texts)| texts.get(value.get(value.len().checked_sub(*length)?..)?));
        self.exact.get(value).into_iter().chain(prefixes).chain(suffixes).map(Vec::as_slice)
    }
}
