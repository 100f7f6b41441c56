//! Schedules of what goes wrong in rollouts, and what the machine alone makes of each: real servers are held to that.
//!
//! There are two clusters, of which the second is the canary. What is rolled out has one object of each sort to change in each, so
//! that a phase of a cluster is one write, before or after which something happens.
#![expect(clippy::expect_used, reason = "a world that cannot be made fails its test")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use isthmus::rollout::Phase;
use isthmus::rollout::machine::{Action, End, Event, Goal, OnFailure, Stage, Standing, State, Wave};
use policy::name::ClusterName;

/// What happens at a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The program is killed before the server gets it.
    KilledBefore,
    /// The program is killed when the server has done it, and has not heard so.
    KilledAfter,
    /// The server fails, this once.
    Fails,
    /// The server is gone before it gets it, for as long as the program runs.
    GoneBefore,
    /// The server has done it and said so, and is gone then.
    GoneAfter,
}

/// All of them.
pub const FATES: [Fate; 5] =
    [Fate::KilledBefore, Fate::KilledAfter, Fate::Fails, Fate::GoneBefore, Fate::GoneAfter];

const PHASES: [Phase; 6] =
    [Phase::SubsetsCome, Phase::Shadow, Phase::RoutesCome, Phase::Filters, Phase::RoutesGo, Phase::SubsetsGo];

/// The clusters, by name.
pub const CLUSTERS: [&str; 2] = ["cluster1", "cluster2"];

/// What the program is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// To begin.
    RollOut,
    /// To go on.
    Resume,
    /// To go back.
    Undo,
}

/// At which write what happens, if that write comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// Of which cluster.
    pub cluster: usize,
    /// Of which phase, its first.
    pub phase: Phase,
    /// What happens.
    pub fate: Fate,
}

/// One run of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What it is asked for.
    pub order: Order,
    /// What goes wrong.
    pub strike: Option<Strike>,
}

/// A rollout, and whatever happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Whether a failure is undone.
    pub undoes: bool,
    /// Whether plans are tried first.
    pub tries: bool,
    /// The program, time and again. After the last nothing goes wrong any more.
    pub runs: Vec<Run>,
}

/// Numbers that look random, the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % sides
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        *all.get(self.roll(all.len())).expect("one of some")
    }
}

impl Schedule {
    /// That of a number.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let (undoes, tries) = (dice.roll(2) == 0, dice.roll(2) == 0);
        let count = 1 + dice.roll(3);
        let run = |number: usize| {
            let order = match number {
                0 => Order::RollOut,
                _ => dice.of(&[Order::Resume, Order::Resume, Order::Undo]),
            };
            let strike = Strike { cluster: dice.roll(2), phase: dice.of(&PHASES), fate: dice.of(&FATES) };
            Run { order, strike: (dice.roll(6) > 0).then_some(strike) }
        };
        Self { undoes, tries, runs: (0..count).map(run).collect() }
    }

    /// So many of the first thousand, in which the most different things happen: each the one that adds most to those before.
    pub fn telling(count: usize) -> Vec<(u64, Self)> {
        let all: Vec<(u64, Self)> = (0..1000).map(|seed| (seed, Self::of(seed))).collect();
        let (mut telling, mut known) = (Vec::new(), BTreeSet::new());
        while telling.len() < count {
            let adds = |schedule: &Self| schedule.happens().difference(&known).count();
            let best = all.iter().rev().max_by_key(|(_, schedule)| adds(schedule)).expect("some");
            known.extend(best.1.happens());
            telling.push(best.clone());
        }
        telling
    }

    /// What happens in it: at which phase, towards what, by which order.
    fn happens(&self) -> BTreeSet<(Order, bool, Phase, Fate)> {
        let mut world = World::new(self);
        let mut happens = BTreeSet::new();
        for run in &self.runs {
            if !world.is_over() {
                let struck = world.play(*run).struck;
                let is_new = |goal: Goal| goal == Goal::New;
                happens.extend(
                    struck.map(|Struck { strike, goal, .. }| {
                        (run.order, is_new(goal), strike.phase, strike.fate)
                    }),
                );
            }
        }
        happens
    }
}

/// What a cluster has of what was there before, 0, and of what is rolled out, 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which plan is in force.
    pub filter: usize,
    /// Whether the new one is tried beside it.
    pub on_trial: bool,
    /// Which routes are there.
    pub routes: BTreeSet<usize>,
    /// Which subsets are there.
    pub subsets: BTreeSet<usize>,
}

/// A write at which something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Struck {
    /// What.
    pub strike: Strike,
    /// Towards what the clusters are brought then.
    pub goal: Goal,
    /// How often the same object of the cluster was written before, in the same run.
    pub after: usize,
}

/// What becomes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Played {
    /// At which write something happened, if it came.
    pub struck: Option<Struck>,
    /// How it ended; `None`: it was killed.
    pub end: Option<End>,
}

#[derive(Debug)]
struct Cluster {
    held: Held,
    /// Its copy of the record, with how often it was written before.
    copy: (u64, State),
    /// Whether its server is gone in this run.
    gone: bool,
    /// Whether a cluster that sends requests to it must take its subsets for missing.
    lacks: bool,
}

/// The clusters and the machine, without any server.
#[derive(Debug)]
pub struct World {
    clusters: BTreeMap<ClusterName, Cluster>,
    writes: u64,
    /// The objects that a run has written: of which cluster, and whether a plugin.
    written: Vec<(ClusterName, Phase)>,
    struck: Option<Struck>,
}

fn name(number: usize) -> ClusterName {
    CLUSTERS.get(number).and_then(|name| name.parse().ok()).expect("a cluster")
}

fn side(goal: Goal) -> usize {
    match goal {
        Goal::Old => 0,
        Goal::New => 1,
    }
}

/// Both change the plugins.
fn object(phase: Phase) -> Phase {
    if phase == Phase::Shadow { Phase::Filters } else { phase }
}

impl World {
    /// Before the rollout.
    pub fn new(schedule: &Schedule) -> Self {
        let wave = |label: &str, number: usize| Wave {
            name: label.to_owned(),
            clusters: [name(number)].into(),
            at_once: 1,
            bake: 0,
            shadow: schedule.tries.then_some(1),
        };
        let on_failure = if schedule.undoes { OnFailure::Undo } else { OnFailure::Stop };
        let state = State::new(vec![wave("canary", 1), wave("rest", 0)], on_failure);
        let old = BTreeSet::from([0]);
        let held = Held { filter: 0, on_trial: false, routes: old.clone(), subsets: old };
        let cluster = |number| {
            let copy = (0, state.clone());
            (name(number), Cluster { held: held.clone(), copy, gone: false, lacks: false })
        };
        Self { clusters: [0, 1].map(cluster).into(), writes: 0, written: Vec::new(), struck: None }
    }

    /// What each cluster has.
    pub fn held(&self) -> impl Iterator<Item = (&ClusterName, &Held)> {
        self.clusters.iter().map(|(name, cluster)| (name, &cluster.held))
    }

    /// What the copies of the record come to.
    pub fn record(&self) -> State {
        let copies = self.clusters.values().map(|cluster| &cluster.copy);
        let mut state = copies.max_by_key(|(writes, _)| *writes).expect("a copy").1.clone();
        state.believe(&self.clusters.iter().map(|(name, cluster)| (name, &cluster.copy.1)).collect());
        state
    }

    /// Runs the program once.
    pub fn play(&mut self, run: Run) -> Played {
        self.clusters.values_mut().for_each(|cluster| cluster.gone = false);
        (self.written, self.struck) = (Vec::new(), None);
        let mut state = self.record();
        let first = if run.order == Order::Undo { Event::Undo } else { Event::Begin };
        let (mut events, mut pending) = (VecDeque::from([first]), VecDeque::new());
        loop {
            while let Some(event) = events.pop_front() {
                for action in state.step(event) {
                    match action {
                        Action::Save => self.save(&state),
                        Action::Rest => return Played { struck: self.struck, end: state.stage().end() },
                        Action::Take(..) | Action::Look(_) | Action::Watch(_) => pending.push_back(action),
                    }
                }
            }
            let action = pending.pop_front().expect("it waits for something");
            match self.happen(action, &state, run.strike) {
                Some(event) => events.push_back(event),
                None => return Played { struck: self.struck, end: None },
            }
            self.check();
        }
    }

    fn save(&mut self, state: &State) {
        self.writes += 1;
        let copy = (self.writes, state.clone());
        let there = self.clusters.values_mut().filter(|cluster| !cluster.gone);
        there.for_each(|cluster| cluster.copy.clone_from(&copy));
    }

    /// What comes of an action; nothing if the program is killed.
    fn happen(&mut self, action: Action, state: &State, strike: Option<Strike>) -> Option<Event> {
        match action {
            Action::Take(name, phase) => self.take(name, phase, state, strike),
            Action::Look(name) if self.clusters.get(&name)?.gone => Some(Event::Refused(name, String::new())),
            Action::Look(name) => Some(Event::Passed(name)),
            Action::Watch(_) => Some(Event::Baked),
            Action::Save | Action::Rest => None,
        }
    }

    fn take(
        &mut self,
        name: ClusterName,
        phase: Phase,
        state: &State,
        strike: Option<Strike>,
    ) -> Option<Event> {
        let (goal, stuck) = (side(state.goal()), |name| Some(Event::Stuck(name, String::new())));
        if phase == Phase::RoutesCome && self.waits(&name, state) {
            return stuck(name);
        }
        let cluster = self.clusters.get_mut(&name)?;
        let mut next = cluster.held.clone();
        next.take(phase, goal);
        if phase == Phase::SubsetsCome {
            // Here it is looked what is there.
            cluster.lacks = cluster.gone || !cluster.held.subsets.contains(&goal);
            if cluster.gone {
                return stuck(name);
            }
        }
        if phase == Phase::Shadow && cluster.held.filter == goal {
            return Some(Event::Spared(name));
        }
        if next == cluster.held {
            return Some(Event::Taken(name, false));
        }
        if cluster.gone {
            return stuck(name);
        }
        let own = |(whose, what): &&(ClusterName, Phase)| *whose == name && *what == object(phase);
        let after = self.written.iter().filter(own).count();
        let strikes = |strike: &Strike| self::name(strike.cluster) == name && strike.phase == phase;
        let strike = strike.filter(|strike| self.struck.is_none() && strikes(strike));
        self.struck = strike.map(|strike| Struck { strike, goal: state.goal(), after }).or(self.struck);
        let fate = strike.map(|strike| strike.fate);
        cluster.gone = matches!(fate, Some(Fate::GoneBefore | Fate::GoneAfter));
        match fate {
            Some(Fate::KilledBefore) => return None,
            Some(Fate::Fails | Fate::GoneBefore) => return stuck(name),
            Some(Fate::KilledAfter | Fate::GoneAfter) | None => cluster.held = next,
        }
        if phase == Phase::SubsetsCome {
            cluster.lacks = false;
        }
        self.written.push((name.clone(), object(phase)));
        (fate != Some(Fate::KilledAfter)).then_some(Event::Taken(name, true))
    }

    /// Whether the routes of a cluster would lead to one that may not know them.
    fn waits(&self, name: &ClusterName, state: &State) -> bool {
        let is_behind =
            |other: &ClusterName| matches!(state.clusters().get(other), Some(Standing::Behind(_)));
        let lacking = |(other, cluster): (&ClusterName, &Cluster)| cluster.lacks && is_behind(other);
        let comes = |cluster: &Cluster| !cluster.held.routes.contains(&side(state.goal()));
        state.may_lack_subsets()
            && self.clusters.get(name).is_some_and(comes)
            && self.clusters.iter().any(lacking)
    }

    /// Nothing that a filter asks for is missing anywhere on the way.
    fn check(&self) {
        for (name, cluster) in &self.clusters {
            let held = &cluster.held;
            assert!(held.routes.contains(&held.filter), "{name} asks for a route that it lacks: {self:?}");
            let knows = |other: &Cluster| held.routes.is_subset(&other.held.subsets);
            assert!(self.clusters.values().all(knows), "a route of {name} leads nowhere: {self:?}");
        }
    }

    /// Whether all clusters have what a rollout that ended so leaves, and nothing else.
    pub fn is_at(&self, end: End) -> bool {
        let wanted = match end {
            End::Complete => 1,
            End::Undone => 0,
            End::Incomplete | End::Failed => return false,
        };
        let only = BTreeSet::from([wanted]);
        let is = |held: &Held| held.filter == wanted && held.routes == only && held.subsets == only;
        self.held().all(|(_, held)| is(held) && !held.on_trial)
    }

    /// Whether nothing is left to go on with.
    pub fn is_over(&self) -> bool {
        matches!(self.record().stage(), Stage::Ended(End::Complete | End::Undone))
    }
}

impl Held {
    fn take(&mut self, phase: Phase, goal: usize) {
        match phase {
            Phase::SubsetsCome => drop(self.subsets.insert(goal)),
            Phase::Shadow => self.on_trial = true,
            Phase::RoutesCome => drop(self.routes.insert(goal)),
            Phase::Filters => (self.filter, self.on_trial) = (goal, false),
            Phase::RoutesGo => self.routes = [goal].into(),
            Phase::SubsetsGo => self.subsets = [goal].into(),
        }
    }
}
