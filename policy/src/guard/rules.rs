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

/// A line under a value, in one of the ways in which it could be filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Filed<'r> {
    key: Key<'r>,
    line: usize,
    way: usize,
}

/// So many ways there are at most, one for each field that rules are filed by.
const WAYS: usize = 5;

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
        let mut filed = Vec::new();
        for (line, rule) in rules.iter().enumerate() {
            file(rule, line, clusters, &mut filed);
        }
        // As quick here as the sort of slices, and a tenth of the module's bytes that it takes.
        let filed = BinaryHeap::from(filed).into_sorted_vec();
        let cheapest = cheapest(&filed, rules.len());
        let mut index = Self { clusters: vec![Vec::new(); clusters], ..Self::default() };
        for (line, way) in cheapest.iter().enumerate() {
            if way.is_none() {
                index.rest.push(line);
            }
        }
        for alike in filed.chunk_by(|one, two| one.key == two.key) {
            let mut lines = Vec::new();
            for filed in alike {
                if cheapest.get(filed.line) == Some(&Some(filed.way)) && lines.last() != Some(&filed.line) {
                    lines.push(filed.line);
                }
            }
            if let Some(Filed { key, .. }) = alike.first()
                && !lines.is_empty()
            {
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

/// The way for each line whose values the fewest others have; `None` for one that cannot be filed.
fn cheapest(filed: &[Filed<'_>], lines: usize) -> Vec<Option<usize>> {
    let mut costs = vec![[0_usize; WAYS]; lines];
    for alike in filed.chunk_by(|one, two| one.key == two.key) {
        for filed in alike {
            if let Some(cost) = costs.get_mut(filed.line).and_then(|costs| costs.get_mut(filed.way)) {
                *cost += alike.len();
            }
        }
    }
    let way = |costs: &[usize; WAYS]| {
        let possible = costs.iter().enumerate().filter(|(_, cost)| **cost > 0);
        possible.min_by_key(|(_, cost)| **cost).map(|(way, _)| way)
    };
    costs.iter().map(way).collect()
}

/// Files a rule in each way there is: for a field that each of its sources, or each of its requests, says, under all
/// values of it.
fn file<'r>(rule: &'r Rule, line: usize, clusters: usize, filed: &mut Vec<Filed<'r>>) {
    let from = || rule.from.iter();
    let to = || rule.to.iter();
    let mut patterns = |way, field, clauses: &mut dyn Iterator<Item = &'r Clause<Pattern>>| {
        let before = filed.len();
        for clause in clauses {
            if clause.any.is_empty() || clause.any.contains(&Pattern::Any) {
                filed.truncate(before);
                return;
            }
            for pattern in &clause.any {
                filed.push(Filed { key: Key::of(field, pattern), line, way });
            }
        }
        if filed.len() - before > MOST_VALUES {
            filed.truncate(before);
        }
    };
    patterns(0, Field::Principals, &mut from().map(|from| &from.principals));
    patterns(1, Field::Paths, &mut to().map(|to| &to.paths));
    patterns(2, Field::Namespaces, &mut from().map(|from| &from.namespaces));
    patterns(3, Field::Hosts, &mut to().map(|to| &to.hosts));
    let numbers = || from().flat_map(|from| from.clusters.iter());
    let count = numbers().count();
    if count <= MOST_VALUES && count <= clusters.div_ceil(2) {
        let key = |length| Key { field: Field::Clusters, form: Form::Exact, length, text: "" };
        numbers().for_each(|number| filed.push(Filed { key: key(number), line, way: 4 }));
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
}
