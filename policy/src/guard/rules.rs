//! Many rules, asked as if they were few: by what a request is, not one after the other.
//!
//! Each rule is filed under the values of one of its fields, of the one whose values the fewest other rules have.
//! A request then looks at the rules filed under its own values and at no others. A rule that has no such field
//! is asked every time.

use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::facts::{Effect, Facts, Field};
use crate::map::Map;
use crate::pattern::Pattern;
use crate::plan::{Clause, From, Rule, Section, To};

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
    shelves: Vec<Shelf>,
    rest: Vec<usize>,
}

/// Lines by the texts of their patterns, where those are of one form and, but for exact ones, of one length: a value
/// begins with one text of each length.
#[derive(Debug)]
struct Shelf {
    field: Field,
    form: Form,
    length: usize,
    lines: Map<Box<str>, Vec<usize>>,
}

/// How a pattern's text stands in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Exact,
    Prefix,
    Suffix,
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

    fn value(&self, field: Field) -> Option<&'v str> {
        match field {
            Field::Namespaces => self.namespace,
            Field::Principals => self.principal,
            Field::Paths => self.path,
            Field::Hosts => self.host,
            Field::Clusters | Field::TrustDomains | Field::Ports | Field::Methods => None,
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

/// A value under which a rule can be filed. For a cluster, `length` is its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'r> {
    field: Field,
    form: Form,
    length: usize,
    text: &'r str,
}

/// A line under a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Filed<'r> {
    key: Key<'r>,
    line: usize,
}

/// The ways of filing a rule: by the values of one field, which each of its sources, or each of its requests, says.
const WAYS: [Field; 5] = [Field::Principals, Field::Paths, Field::Namespaces, Field::Hosts, Field::Clusters];

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
        index.each(&Probe::of(facts), &mut |list| {
            for line in list.iter().filter_map(|at| self.lines.get(*at)) {
                if found.is_some_and(|(first, _)| first <= *line) {
                    return;
                }
                if let Some(first) = ask(*line) {
                    found = Some(first);
                    return;
                }
            }
        });
        found
    }
}

impl Index {
    /// Files rules of a mesh of so many clusters.
    pub(crate) fn new(rules: &[&Rule], clusters: usize) -> Self {
        let crowds = Crowds::of(rules, clusters);
        let mut index = Self { clusters: vec![Vec::new(); clusters], ..Self::default() };
        let mut filed = Vec::with_capacity(rules.len());
        for (line, rule) in rules.iter().enumerate() {
            match crowds.fewest(rule, clusters) {
                Some(field) => each_key(rule, field, clusters, &mut |key| filed.push(Filed { key, line })),
                None => index.rest.push(line),
            }
        }
        // As quick here as the sort of slices, and a tenth of the module's bytes that it takes.
        let filed = BinaryHeap::from(filed).into_sorted_vec();
        for alike in filed.chunk_by(|one, two| one.key == two.key) {
            let mut lines: Vec<usize> = Vec::with_capacity(alike.len());
            for Filed { line, .. } in alike {
                if lines.last() != Some(line) {
                    lines.push(*line);
                }
            }
            if let Some(Filed { key, .. }) = alike.first() {
                index.shelve(key, lines);
            }
        }
        index
    }

    /// Takes in the lines of a value; values come in order.
    fn shelve(&mut self, key: &Key<'_>, lines: Vec<usize>) {
        let Key { field, form, length, text } = *key;
        if field == Field::Clusters {
            if let Some(list) = self.clusters.get_mut(length) {
                *list = lines;
            }
            return;
        }
        let is_it = |shelf: &&mut Shelf| (shelf.field, shelf.form, shelf.length) == (field, form, length);
        if let Some(shelf) = self.shelves.last_mut().filter(is_it) {
            shelf.lines.insert(text.into(), lines);
        } else {
            let lines = Map::of(text.into(), lines);
            self.shelves.push(Shelf { field, form, length, lines });
        }
    }

    /// Shows the lists in which every rule that can hold stands, by number, each ascending.
    pub(crate) fn each<'i>(&'i self, probe: &Probe<'_>, show: &mut dyn FnMut(&'i [usize])) {
        show(&self.rest);
        if let Some(lines) = probe.cluster.and_then(|cluster| self.clusters.get(cluster)) {
            show(lines);
        }
        for shelf in &self.shelves {
            if let Some(lines) = probe.value(shelf.field).and_then(|value| shelf.find(value)) {
                show(lines);
            }
        }
    }
}

impl Shelf {
    fn find(&self, value: &str) -> Option<&[usize]> {
        let text = match self.form {
            Form::Exact => value,
            Form::Prefix => value.get(..self.length)?,
            Form::Suffix => value.get(value.len().checked_sub(self.length)?..)?,
        };
        self.lines.get(text).map(Vec::as_slice)
    }
}

/// How many rules say each value there is, by its hash: of two that share one, both count as more than they are, and
/// no rule is lost by that. A list of the values themselves would take ten times the memory.
struct Crowds(Vec<u32>);

impl Crowds {
    fn of(rules: &[&Rule], clusters: usize) -> Self {
        let mut hashes = Vec::with_capacity(rules.len() * 2);
        for rule in rules {
            for field in WAYS {
                each_key(rule, field, clusters, &mut |key| hashes.push(key.hash()));
            }
        }
        Self(BinaryHeap::from(hashes).into_sorted_vec())
    }

    fn count(&self, key: &Key<'_>) -> usize {
        let hash = key.hash();
        self.0.partition_point(|other| *other <= hash) - self.0.partition_point(|other| *other < hash)
    }

    /// The field whose values the fewest others have; `None` where a rule cannot be filed.
    fn fewest(&self, rule: &Rule, clusters: usize) -> Option<Field> {
        let mut fewest: Option<(usize, Field)> = None;
        for field in WAYS {
            let mut count = 0;
            each_key(rule, field, clusters, &mut |key| count += self.count(&key));
            if count > 0 && fewest.is_none_or(|(least, _)| count < least) {
                fewest = Some((count, field));
            }
        }
        fewest.map(|(_, field)| field)
    }
}

/// Shows the values under which a rule is filed by a field; none, where it cannot be.
fn each_key<'r>(rule: &'r Rule, field: Field, clusters: usize, show: &mut dyn FnMut(Key<'r>)) {
    if field == Field::Clusters {
        let numbers = || rule.from.iter().flat_map(|from| from.clusters.iter());
        let count = numbers().count();
        if count <= MOST_VALUES && count <= clusters.div_ceil(2) {
            numbers().for_each(|length| show(Key { field, form: Form::Exact, length, text: "" }));
        }
        return;
    }
    let clauses = || {
        let from = rule.from.iter().filter_map(move |from| from.clause(field));
        from.chain(rule.to.iter().filter_map(move |to| to.clause(field)))
    };
    let is_open = |clause: &Clause<Pattern>| clause.any.is_empty() || clause.any.contains(&Pattern::Any);
    if clauses().any(is_open) || clauses().map(|clause| clause.any.len()).sum::<usize>() > MOST_VALUES {
        return;
    }
    for pattern in clauses().flat_map(|clause| &clause.any) {
        show(Key::of(field, pattern));
    }
}

impl From {
    fn clause(&self, field: Field) -> Option<&Clause<Pattern>> {
        match field {
            Field::Principals => Some(&self.principals),
            Field::Namespaces => Some(&self.namespaces),
            Field::TrustDomains => Some(&self.trust_domains),
            Field::Clusters | Field::Ports | Field::Methods | Field::Paths | Field::Hosts => None,
        }
    }
}

impl To {
    fn clause(&self, field: Field) -> Option<&Clause<Pattern>> {
        match field {
            Field::Methods => Some(&self.methods),
            Field::Paths => Some(&self.paths),
            Field::Hosts => Some(&self.hosts),
            Field::Clusters | Field::Namespaces | Field::Principals | Field::TrustDomains | Field::Ports => {
                None
            }
        }
    }
}

impl<'r> Key<'r> {
    fn of(field: Field, pattern: &'r Pattern) -> Self {
        let text = pattern.text();
        match pattern {
            Pattern::Any | Pattern::Exact(_) => Self { field, form: Form::Exact, length: 0, text },
            Pattern::Prefix(_) => Self { field, form: Form::Prefix, length: text.len(), text },
            Pattern::Suffix(_) => Self { field, form: Form::Suffix, length: text.len(), text },
        }
    }

    /// FNV-1a.
    fn hash(&self) -> u32 {
        let start = [self.field as u8, self.form as u8];
        let bytes = start.into_iter().chain(self.length.to_le_bytes()).chain(self.text.bytes());
        bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}
