//! The kinds of senders and of requests that rules tell apart.

use std::collections::{BTreeMap, BTreeSet};

use super::atoms::{self, Atom, Domain};
use super::boxes::{self, Span};
use crate::evaluate::Arrival;
use crate::facts::{Effect, Facts, Field, Needs};
use crate::name::{Identity, Namespace, ServiceAccount, TrustDomain, host_of};
use crate::path;
use crate::pattern::Pattern;
use crate::plan::{From, To};
use crate::source::Source;

/// More points than this are not looked at: of the longest axis some are left out.
const MOST_POINTS: usize = 20_000;

/// A space of requests or senders: a kind of text on each axis.
#[derive(Debug)]
pub(super) struct Space {
    axes: Vec<Vec<Atom>>,
    /// The kind of each point, in order.
    kinds: Vec<usize>,
    /// A point of each kind.
    samples: Vec<Vec<usize>>,
    /// Whether it has more points than are looked at.
    pub(super) cut: bool,
}

impl Space {
    fn new(mut axes: Vec<Vec<Atom>>, signature: &dyn Fn(&[Option<&str>]) -> Vec<bool>) -> Self {
        let mut cut = false;
        while axes.iter().map(Vec::len).product::<usize>() > MOST_POINTS {
            cut = true;
            drop(axes.iter_mut().max_by_key(|axis| axis.len()).and_then(Vec::pop));
        }
        let mut space = Self { axes, kinds: Vec::new(), samples: Vec::new(), cut };
        let mut found: BTreeMap<Vec<bool>, usize> = BTreeMap::new();
        let lengths = space.lengths();
        for point in boxes::points(&lengths) {
            let next = found.len();
            let kind = *found.entry(signature(&space.values(&point))).or_insert(next);
            if kind == next {
                space.samples.push(point);
            }
            space.kinds.push(kind);
        }
        space
    }

    pub(super) fn lengths(&self) -> Vec<usize> {
        self.axes.iter().map(Vec::len).collect()
    }

    /// How many kinds there are.
    pub(super) fn count(&self) -> usize {
        self.samples.len()
    }

    /// A text on each axis, of a kind.
    pub(super) fn sample(&self, kind: usize) -> Vec<Option<&str>> {
        self.samples.get(kind).map(|point| self.values(point)).unwrap_or_default()
    }

    /// The kind of a point.
    pub(super) fn kind(&self, point: &[usize]) -> Option<usize> {
        let number = self.axes.iter().zip(point).fold(0, |number, (axis, value)| number * axis.len() + value);
        self.kinds.get(number).copied()
    }

    fn values(&self, point: &[usize]) -> Vec<Option<&str>> {
        let atoms = self.axes.iter().zip(point).map(|(axis, number)| axis.get(*number));
        atoms.map(|atom| atom?.value.as_deref()).collect()
    }

    fn words(&self, axis: usize, span: &Span) -> Option<String> {
        atoms::words(self.axes.get(axis)?, span.get(axis)?)
    }
}

/// The kinds of identities that some sources tell apart; on the axes trust domain, namespace and service account, where
/// no trust domain is no identity.
pub(super) fn senders(sources: &[&From]) -> Space {
    let mut parts: [BTreeSet<Pattern>; 3] = Default::default();
    let [domains, namespaces, accounts] = &mut parts;
    for from in sources {
        let both = |clause: &'_ crate::plan::Clause<Pattern>| -> Vec<Pattern> {
            clause.any.iter().chain(&clause.none).cloned().collect()
        };
        domains.extend(both(&from.trust_domains));
        namespaces.extend(both(&from.namespaces));
        for principal in both(&from.principals) {
            let [domain, namespace, account] = split(&principal);
            domains.extend(domain);
            namespaces.extend(namespace);
            accounts.extend(account);
        }
    }
    let [domains, namespaces, accounts] = &parts;
    let axis = |patterns: &BTreeSet<Pattern>, sound: &dyn Fn(&str) -> bool| {
        atoms::atoms(patterns.iter(), &Domain { lead: "", sound })
    };
    let mut axes = vec![
        axis(domains, &|text| text.parse::<TrustDomain>().is_ok()),
        axis(namespaces, &|text| text.parse::<Namespace>().is_ok()),
        axis(accounts, &|text| text.parse::<ServiceAccount>().is_ok()),
    ];
    // Whoever has an identity has all of it.
    axes.iter_mut().skip(1).for_each(|axis| axis.retain(|atom| atom.value.is_some()));
    Space::new(axes, &|values| {
        let identity = identity(values);
        let arrival = arrival(identity.as_ref(), &[None; 4]);
        let facts = Facts::of(&arrival, Needs::ALL);
        let holds =
            |from: &&From, effect| from.failing(&facts, effect).all(|field| matches!(field, Field::Clusters));
        let bits = sources.iter().flat_map(|from| [holds(from, Effect::Allow), holds(from, Effect::Deny)]);
        bits.chain([identity.is_some()]).collect()
    })
}

/// The identity of a point.
pub(super) fn identity(values: &[Option<&str>]) -> Option<Identity> {
    let &[Some(domain), Some(namespace), Some(account)] = values else { return None };
    Some(Identity {
        trust_domain: domain.parse().ok()?,
        namespace: namespace.parse().ok()?,
        service_account: account.parse().ok()?,
    })
}

/// The patterns for trust domain, namespace and service account that a pattern for all of them comes to.
fn split(principal: &Pattern) -> [Option<Pattern>; 3] {
    let exact = |text: &&str| Pattern::Exact((*text).to_owned());
    let texts: Vec<&str> = principal.text().split('/').collect();
    let (first, last) =
        (texts.first().copied().unwrap_or_default(), texts.last().copied().unwrap_or_default());
    let part = |at: usize| texts.get(at);
    match principal {
        Pattern::Any => [None, None, None],
        Pattern::Exact(_) => [part(0).map(exact), part(2).map(exact), part(4).map(exact)],
        Pattern::Prefix(_) => [0, 2, 4].map(|at| {
            let begins = || Some(Pattern::Prefix(last.to_owned())).filter(|_| !last.is_empty());
            if at + 1 == texts.len() { begins() } else { part(at).map(exact) }
        }),
        Pattern::Suffix(_) => [4, 2, 0].map(|back| {
            let ends = || Some(Pattern::Suffix(first.to_owned())).filter(|_| !first.is_empty());
            let at = texts.len().checked_sub(back + 1)?;
            if at == 0 { ends() } else { part(at).map(exact) }
        }),
    }
}

/// What senders are called; `None`: all of them.
pub(super) fn sender_words(space: &Space, span: &[BTreeSet<usize>]) -> Option<String> {
    let lengths = space.lengths();
    let whole = |axis: usize| span.get(axis).map(BTreeSet::len) == lengths.get(axis).copied();
    let mut span = span.to_vec();
    let rest_is_whole = whole(1) && whole(2);
    let domains = span.first_mut()?;
    if *domains == BTreeSet::from([0]) {
        return Some("without an identity".to_owned());
    }
    if rest_is_whole && domains.len() == lengths.first().copied()? {
        return None;
    }
    // A box of those without identity is one of its own, since to them the rest is all one.
    let without = domains.remove(&0) && rest_is_whole;
    let all = domains.len() + 1 == lengths.first().copied()?;
    let known: Vec<Atom> = space.axes.first()?.iter().skip(1).cloned().collect();
    let shifted = domains.iter().map(|value| value - 1).collect();
    let domain = if all { None } else { atoms::words(&known, &shifted) };
    let parts =
        [("namespace", space.words(1, &span)), ("account", space.words(2, &span)), ("trust domain", domain)];
    let mut said =
        parts.into_iter().filter_map(|(what, words)| Some(format!("{what} {}", words?))).collect::<Vec<_>>();
    if said.is_empty() {
        said.push("any identity".to_owned());
    }
    let without = if without { " or without an identity" } else { "" };
    Some(format!("{}{without}", said.join(", ")))
}

/// The kinds of requests that some rules tell apart; on the axes port, method, path and host.
pub(super) fn requests(targets: &[&To]) -> Space {
    fn patterns<'p>(
        targets: &[&'p To],
        of: impl Fn(&'p To) -> &'p crate::plan::Clause<Pattern>,
    ) -> Vec<&'p Pattern> {
        targets.iter().map(|to| of(to)).flat_map(|clause| clause.any.iter().chain(&clause.none)).collect()
    }
    let ports = targets.iter().flat_map(|to| to.ports.any.iter().chain(&to.ports.none));
    let ports: Vec<Pattern> = ports.map(|port| Pattern::Exact(port.to_string())).collect();
    let axis = |patterns: Vec<&Pattern>, lead: &str, sound: &dyn Fn(&str) -> bool| {
        atoms::atoms(patterns.into_iter(), &Domain { lead, sound })
    };
    let axes = vec![
        axis(ports.iter().collect(), "", &|text| text.parse::<crate::name::Port>().is_ok()),
        axis(patterns(targets, |to| &to.methods), "", &|text| !text.is_empty()),
        axis(patterns(targets, |to| &to.paths), "/", &|text| {
            path::normalise(text).is_some_and(|path| path == text)
        }),
        axis(patterns(targets, |to| &to.hosts), "", &|text| host_of(text).is_some_and(|host| host == text)),
    ];
    Space::new(axes, &|values| {
        let arrival = arrival(None, values);
        let facts = Facts::of(&arrival, Needs::ALL);
        let holds = |to: &&To, effect| to.failing(&facts, effect).next().is_none();
        targets.iter().flat_map(|to| [holds(to, Effect::Allow), holds(to, Effect::Deny)]).collect()
    })
}

/// A request of a sender and of a point, from nowhere known.
pub(super) fn arrival<'r>(identity: Option<&'r Identity>, values: &[Option<&'r str>]) -> Arrival<'r> {
    let value = |axis: usize| values.get(axis).copied().flatten();
    Arrival {
        source: Source::Unknown,
        identity,
        port: value(0).and_then(|port| port.parse().ok()),
        method: value(1).unwrap_or_default(),
        path: value(2).unwrap_or_default(),
        host: value(3),
    }
}

/// What requests are called; `None`: all of them.
pub(super) fn request_words(space: &Space, span: &Span) -> Option<String> {
    let said = ["port", "method", "path", "host"].iter().enumerate();
    let said: Vec<String> =
        said.filter_map(|(axis, what)| Some(format!("{what} {}", space.words(axis, span)?))).collect();
    (!said.is_empty()).then(|| said.join(", "))
}
