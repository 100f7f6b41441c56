//! The machine among clusters that fail, under a schedule that a property test draws.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// What a cluster has: 0 is before, 1 is what is rolled out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    filter: usize,
    routes: BTreeSet<usize>,
    subsets: BTreeSet<usize>,
    /// Whether gates were open since the filter changed last.
    judged: bool,
    /// Whether what is rolled out is tried beside the filter.
    on_trial: bool,
    /// Whether it was watched on trial for its time.
    tried: bool,
}

const OLD: usize = 0;
const NEW: usize = 1;

/// The clusters, and whatever happens to them.
#[derive(Debug)]
struct World {
    held: BTreeMap<ClusterName, Held>,
    /// Whom each sends requests to, through its gateways.
    sends: BTreeMap<ClusterName, BTreeSet<ClusterName>>,
    /// Whose plans are to be tried first.
    trying: BTreeSet<ClusterName>,
    down: BTreeSet<ClusterName>,
    /// Draws what happens next; nothing bad when it is used up.
    fate: std::vec::IntoIter<u8>,
    saved: Option<State>,
    pending: Vec<Action>,
}

fn name(number: usize) -> ClusterName {
    format!("c{number}").parse().unwrap()
}

impl World {
    fn draw(&mut self, sides: u8) -> u8 {
        self.fate.next().map_or(sides - 1, |drawn| drawn % sides)
    }

    fn goal(state: &State) -> usize {
        match state.goal() {
            Goal::New => NEW,
            Goal::Old => OLD,
        }
    }

    /// What a step does; whether anything changed.
    fn take(&mut self, name: &ClusterName, phase: Phase, goal: usize) -> bool {
        let held = self.held.get_mut(name).unwrap();
        let before = held.clone();
        match phase {
            Phase::SubsetsCome => drop(held.subsets.insert(goal)),
            Phase::Shadow => {
                assert_eq!(goal, NEW, "what was there before has been tried long ago");
                held.on_trial = true;
            }
            Phase::RoutesCome => drop(held.routes.insert(goal)),
            Phase::Filters => {
                let is_new = goal == NEW && held.filter != NEW;
                assert!(
                    !is_new || !self.trying.contains(name) || held.tried,
                    "{name} was not tried: {held:?}"
                );
                (held.filter, held.on_trial) = (goal, false);
            }
            Phase::RoutesGo => held.routes = BTreeSet::from([goal]),
            Phase::SubsetsGo => held.subsets = BTreeSet::from([goal]),
        }
        if held.filter != before.filter {
            held.judged = false;
        }
        *held != before
    }

    /// Nothing that a filter asks for is missing anywhere on the way.
    fn check(&self) {
        for (name, held) in &self.held {
            assert!(held.routes.contains(&held.filter), "{name} asks for a route that it lacks: {held:?}");
            for (route, to) in
                held.routes.iter().flat_map(|route| self.sends[name].iter().map(move |to| (route, to)))
            {
                assert!(
                    self.held[to].subsets.contains(route),
                    "{name} sends to {to}, which lacks the subset"
                );
            }
        }
    }

    /// Within what a wave may lose at a time, and no filter of a later wave.
    fn check_waves(&self, state: &State, waves: &[Wave]) {
        let wave_now = match state.stage() {
            Stage::Filters(wave) if state.goal() == Goal::New => wave,
            Stage::Subsets
            | Stage::Shadow(_)
            | Stage::ShadowBake(_)
            | Stage::Routes(_)
            | Stage::Filters(_)
            | Stage::Bake(_)
            | Stage::RoutesGo
            | Stage::SubsetsGo
            | Stage::Ended(_) => return,
        };
        let unjudged = |wave: &Wave| {
            let new = |name: &&ClusterName| self.held[*name].filter == NEW && !self.held[*name].judged;
            wave.clusters.iter().filter(new).count()
        };
        assert!(unjudged(&waves[wave_now]) <= waves[wave_now].at_once, "{state:?}");
        for later in waves.iter().skip(state.begun) {
            let as_before = |name| self.held[name].filter == OLD && !self.held[name].on_trial;
            assert!(later.clusters.iter().all(as_before), "{state:?}");
        }
    }

    /// As a runner does: nobody's route comes while one whom it sends to lacks the subset and cannot be reached.
    fn may_take(&self, state: &State, name: &ClusterName, phase: Phase) -> bool {
        let is_behind = |to: &&ClusterName| matches!(state.clusters().get(*to), Some(Standing::Behind(_)));
        phase != Phase::RoutesCome
            || !state.may_lack_subsets()
            || !self.sends[name].iter().any(|to| is_behind(&to))
    }

    /// Does what the machine wants until it rests, or the host dies.
    fn run(&mut self, mut state: State, first: Event, waves: &[Wave]) {
        self.pending.clear();
        let mut todo = state.step(first);
        loop {
            for action in std::mem::take(&mut todo) {
                match action {
                    Action::Save => self.saved = Some(state.clone()),
                    Action::Rest => return self.saved = Some(state),
                    Action::Look(ref name) => {
                        let held = &self.held[name];
                        let is_there = if state.is_in_shadow() { held.on_trial } else { held.filter == NEW };
                        assert!(is_there, "a gate that is asked of what was there before: {held:?}");
                        self.pending.push(action);
                    }
                    Action::Take(..) | Action::Watch(_) => self.pending.push(action),
                }
            }
            let Some(event) = self.happen(&state) else { return };
            todo = state.step(event);
            self.check();
            self.check_waves(&state, waves);
        }
    }

    /// One thing that was begun ends, well or not; nothing if the host dies.
    fn happen(&mut self, state: &State) -> Option<Event> {
        match self.draw(40) {
            0 => return None,
            1 => return Some(Event::Pause),
            _ => {}
        }
        assert!(!self.pending.is_empty(), "it waits for nothing: {state:?}");
        let number = usize::from(self.draw(8)) % self.pending.len();
        Some(match self.pending.remove(number) {
            Action::Take(name, phase) if !self.may_take(state, &name, phase) => {
                Event::Stuck(name, "waits".to_owned())
            }
            Action::Take(name, _) if self.down.contains(&name) || self.draw(12) == 0 => {
                Event::Stuck(name, "no answer".to_owned())
            }
            Action::Take(name, Phase::Shadow) if self.held[&name].filter == NEW => Event::Spared(name),
            Action::Take(name, phase) => {
                let changed = self.take(&name, phase, Self::goal(state));
                // Done, and nobody heard of it.
                if self.draw(16) == 0 {
                    return None;
                }
                Event::Taken(name, changed)
            }
            Action::Look(name) if self.draw(10) == 0 => Event::Refused(name, "denies too much".to_owned()),
            Action::Look(name) => {
                // One that was forgotten on the way is looked at for nothing.
                if state.clusters()[&name] == Standing::AtGate && !state.is_in_shadow() {
                    self.held.get_mut(&name).unwrap().judged = true;
                }
                Event::Passed(name)
            }
            Action::Watch(_) if self.draw(8) == 0 => {
                let name = state.watched().next().unwrap();
                Event::Refused(name.clone(), "denies too much by now".to_owned())
            }
            Action::Watch(_) => {
                for name in state.watched().filter(|_| state.is_in_shadow()) {
                    let held = self.held.get_mut(name).unwrap();
                    held.tried |= held.on_trial;
                }
                Event::Baked
            }
            Action::Save | Action::Rest => panic!("done at once"),
        })
    }
}

/// Seven clusters in three waves, of which some are down for a while; each wave with whether its plans are tried first.
fn waves(on_all: usize, [canary, some, rest]: [bool; 3]) -> Vec<Wave> {
    let tried = |wave: Wave, shadow: bool| Wave { shadow: shadow.then_some(60), ..wave };
    let wave = |label: &str, numbers: std::ops::Range<usize>, at_once, bake| Wave {
        name: label.to_owned(),
        clusters: numbers.map(name).collect(),
        at_once,
        bake,
        shadow: None,
    };
    vec![
        tried(wave("canary", 0..1, 1, 60), canary),
        tried(wave("some", 1..4, on_all.clamp(1, 3), 0), some),
        tried(wave("rest", 4..7, on_all, 60), rest),
    ]
}

fn world(waves: &[Wave], sends: &[(usize, usize)], down: &BTreeSet<usize>, fate: Vec<u8>) -> World {
    let (routes, subsets) = (BTreeSet::from([OLD]), BTreeSet::from([OLD]));
    let held = Held { filter: OLD, routes, subsets, judged: true, on_trial: false, tried: false };
    let trying = waves.iter().filter(|wave| wave.shadow.is_some());
    let trying = trying.flat_map(|wave| wave.clusters.clone()).collect();
    let all = (0..7).map(name);
    let to = |from: usize| sends.iter().filter(|(who, _)| *who == from).map(|(_, to)| name(*to)).collect();
    World {
        held: all.map(|name| (name, held.clone())).collect(),
        sends: (0..7).map(|number| (name(number), to(number))).collect(),
        trying,
        down: down.iter().copied().map(name).collect(),
        fate: fate.into_iter(),
        saved: None,
        pending: Vec::new(),
    }
}

/// Everyone has this, and nothing else.
fn all_have(world: &World, what: usize) -> bool {
    let only = BTreeSet::from([what]);
    let has = |held: &Held| held.filter == what && held.routes == only && held.subsets == only;
    world.held.values().all(|held| has(held) && !held.on_trial)
}

/// What the state says of itself is so.
fn check_end(world: &World, state: &State) {
    match state.stage() {
        Stage::Ended(End::Complete) => assert!(all_have(world, NEW)),
        Stage::Ended(End::Undone) => assert!(all_have(world, OLD)),
        Stage::Ended(End::Incomplete) => assert!(state.is_behind(), "nobody is told to be behind: {state:?}"),
        Stage::Ended(End::Failed) => assert!(state.failure().is_some()),
        Stage::Subsets
        | Stage::Shadow(_)
        | Stage::ShadowBake(_)
        | Stage::Routes(_)
        | Stage::Filters(_)
        | Stage::Bake(_)
        | Stage::RoutesGo
        | Stage::SubsetsGo => {}
    }
}

#[test]
fn whatever_fails_and_whenever_the_host_dies_nothing_is_lost_and_it_ends_where_it_should() {
    let schedule = (
        (1..=4_usize, any::<[bool; 4]>(), vec(0..6_u8, 0..6)),
        (vec((0..7_usize, 0..7_usize), 0..8), proptest::collection::btree_set(0..7_usize, 0..3)),
        vec(any::<u8>(), 0..400),
    );
    let config = Config { cases: 2048, failure_persistence: None, ..Config::default() };
    type Schedule = ((usize, [bool; 4], Vec<u8>), (Vec<(usize, usize)>, BTreeSet<usize>), Vec<u8>);
    let run = |((at_once, [undoes, tries @ ..], orders), (sends, down), fate): Schedule| {
        let waves = waves(at_once, tries);
        let on_failure = if undoes { OnFailure::Undo } else { OnFailure::Stop };
        let mut world = world(&waves, &sends, &down, fate);
        world.run(State::new(waves.clone(), on_failure), Event::Begin, &waves);
        let kept = |world: &World| world.saved.clone().expect("it is kept before anything is done");
        for order in orders {
            check_end(&world, &kept(&world));
            // Somebody takes away by hand what is tried.
            if order == 1 {
                world.held.values_mut().for_each(|held| held.on_trial = false);
            }
            // What goes back is what was begun, and never after it was told to be complete.
            let first = if order == 0 && !kept(&world).is_over() { Event::Undo } else { Event::Begin };
            let state = kept(&world);
            world.run(state, first, &waves);
        }
        // Nothing fails any more: whoever goes on brings it to its end.
        world.down.clear();
        world.fate = Vec::new().into_iter();
        let state = kept(&world);
        world.run(state, Event::Begin, &waves);
        let state = kept(&world);
        check_end(&world, &state);
        let wanted = if state.goal() == Goal::New { End::Complete } else { End::Undone };
        prop_assert_eq!(state.stage(), Stage::Ended(wanted));
        Ok(())
    };
    TestRunner::new(config).run(&schedule, run).unwrap();
}

#[test]
fn what_is_undone_is_where_it_was_wherever_it_stopped() {
    let on_all = (1..=4_usize, any::<[bool; 3]>());
    let schedule = (on_all, vec((0..7_usize, 0..7_usize), 0..8), vec(any::<u8>(), 0..120));
    let config = Config { cases: 1024, failure_persistence: None, ..Config::default() };
    type Schedule = ((usize, [bool; 3]), Vec<(usize, usize)>, Vec<u8>);
    let run = |((at_once, tries), sends, fate): Schedule| {
        let waves = waves(at_once, tries);
        let mut world = world(&waves, &sends, &BTreeSet::new(), fate);
        world.run(State::new(waves.clone(), OnFailure::Stop), Event::Begin, &waves);
        world.fate = Vec::new().into_iter();
        let state = world.saved.clone().unwrap();
        if state.is_over() {
            return Ok(());
        }
        world.run(state, Event::Undo, &waves);
        prop_assert_eq!(world.saved.as_ref().unwrap().stage(), Stage::Ended(End::Undone));
        prop_assert!(all_have(&world, OLD));
        Ok(())
    };
    TestRunner::new(config).run(&schedule, run).unwrap();
}

/// What the machine wants after each event, in a line.
fn told(state: &mut State, event: Event) -> String {
    let words = state.step(event).into_iter().map(|action| match action {
        Action::Take(name, phase) => format!("{name}:{phase:?}"),
        Action::Look(name) => format!("{name}?"),
        other @ (Action::Save | Action::Watch(_) | Action::Rest) => format!("{other:?}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn two_waves(on_failure: OnFailure) -> State {
    let wave = |label: &str, number: usize, bake| Wave {
        name: label.to_owned(),
        clusters: BTreeSet::from([name(number)]),
        at_once: 1,
        bake,
        shadow: None,
    };
    State::new(vec![wave("canary", 1, 60), wave("rest", 2, 0)], on_failure)
}

#[test]
fn a_canary_is_watched_before_another_cluster_changes() {
    let mut state = two_waves(OnFailure::Stop);
    let taken = |number| Event::Taken(name(number), true);
    let mut said = vec![told(&mut state, Event::Begin)];
    for event in [
        taken(1),
        taken(2),
        taken(1),
        taken(1),
        Event::Passed(name(1)),
        Event::Baked,
        taken(2),
        taken(2),
        Event::Passed(name(2)),
        taken(1),
        taken(2),
        taken(2),
        taken(1),
    ] {
        said.push(told(&mut state, event));
    }
    let wanted = [
        "Save c1:SubsetsCome c2:SubsetsCome",
        "",
        "Save c1:RoutesCome",
        "Save c1:Filters",
        "c1?",
        "Save Watch(0)",
        "Save c2:RoutesCome",
        "Save c2:Filters",
        "c2?",
        "Save c1:RoutesGo c2:RoutesGo",
        "",
        "Save c1:SubsetsGo c2:SubsetsGo",
        "",
        "Save Rest",
    ];
    assert_eq!(said, wanted);
    assert_eq!(state.stage(), Stage::Ended(End::Complete));
}

#[test]
fn a_canary_that_does_harm_while_it_is_watched_goes_back_and_the_rest_never_changes() {
    let mut state = two_waves(OnFailure::Undo);
    for event in [
        Event::Begin,
        Event::Taken(name(1), true),
        Event::Taken(name(2), true),
        Event::Taken(name(1), true),
        Event::Taken(name(1), true),
        Event::Passed(name(1)),
    ] {
        state.step(event);
    }
    assert_eq!(state.stage(), Stage::Bake(0));
    assert_eq!(
        told(&mut state, Event::Refused(name(1), "denies".to_owned())),
        "Save c1:SubsetsCome c2:SubsetsCome"
    );
    let mut said = Vec::new();
    for number in [1, 2, 1, 1, 1, 2, 1, 2] {
        said.push(told(&mut state, Event::Taken(name(number), true)));
    }
    let wanted = [
        "",
        "Save c1:RoutesCome",
        "Save c1:Filters",
        "Save c1:RoutesGo c2:RoutesGo",
        "",
        "Save c1:SubsetsGo c2:SubsetsGo",
        "",
        "Save Rest",
    ];
    assert_eq!(said, wanted);
    assert_eq!(state.stage(), Stage::Ended(End::Undone));
    assert_eq!(state.failure().unwrap().why, "denies");
}

#[test]
fn what_was_watched_is_not_watched_again_after_a_pause_but_what_changed_meanwhile_is_judged() {
    let mut state = two_waves(OnFailure::Stop);
    for event in [
        Event::Begin,
        Event::Taken(name(1), true),
        Event::Taken(name(2), true),
        Event::Taken(name(1), true),
        Event::Taken(name(1), true),
        Event::Passed(name(1)),
        Event::Baked,
    ] {
        state.step(event);
    }
    assert_eq!(told(&mut state, Event::Pause), "");
    assert_eq!(told(&mut state, Event::Taken(name(2), true)), "Save Rest");
    assert!(state.is_paused());
    let mut said = vec![told(&mut state, Event::Begin)];
    for (number, changed) in [(1, false), (2, false), (1, false), (1, true)] {
        said.push(told(&mut state, Event::Taken(name(number), changed)));
    }
    said.push(told(&mut state, Event::Passed(name(1))));
    let wanted = [
        "Save c1:SubsetsCome c2:SubsetsCome",
        "",
        "Save c1:RoutesCome",
        "Save c1:Filters",
        "c1?",
        "Save c2:RoutesCome",
    ];
    assert_eq!(said, wanted);
}

/// One canary that tries its plan first, then another cluster that does not.
fn tried_first(on_failure: OnFailure) -> State {
    let mut waves = two_waves(on_failure).waves;
    waves[0].shadow = Some(600);
    State::new(waves, on_failure)
}

#[test]
fn no_route_and_no_filter_changes_before_the_plan_was_tried_for_its_time() {
    let mut state = tried_first(OnFailure::Stop);
    let taken = |number| Event::Taken(name(number), true);
    let mut said = vec![told(&mut state, Event::Begin)];
    for event in [
        taken(1),
        taken(2),
        taken(1),
        Event::Passed(name(1)),
        Event::Baked,
        taken(1),
        taken(1),
        Event::Passed(name(1)),
        Event::Baked,
        taken(2),
    ] {
        said.push(told(&mut state, event));
    }
    let wanted = [
        "Save c1:SubsetsCome c2:SubsetsCome",
        "",
        "Save c1:Shadow",
        "c1?",
        "Save Watch(0)",
        "Save c1:RoutesCome",
        "Save c1:Filters",
        "c1?",
        "Save Watch(0)",
        "Save c2:RoutesCome",
        "Save c2:Filters",
    ];
    assert_eq!(said, wanted);
}

#[test]
fn a_plan_that_would_deny_too_much_never_comes_to_be_enforced() {
    for (on_failure, wanted) in
        [(OnFailure::Stop, "Save Rest"), (OnFailure::Undo, "Save c1:SubsetsCome c2:SubsetsCome")]
    {
        let mut state = tried_first(on_failure);
        for event in [
            Event::Begin,
            Event::Taken(name(1), true),
            Event::Taken(name(2), true),
            Event::Taken(name(1), true),
            Event::Passed(name(1)),
        ] {
            state.step(event);
        }
        assert_eq!(state.stage(), Stage::ShadowBake(0));
        assert_eq!(state.watched().collect::<Vec<_>>(), [&name(1)]);
        assert_eq!(told(&mut state, Event::Refused(name(1), "would deny".to_owned())), wanted);
        assert_eq!(state.failure().unwrap().why, "would deny");
    }
}

#[test]
fn what_was_tried_is_not_tried_again_after_a_pause_and_what_was_being_tried_is() {
    let begin = [Event::Begin, Event::Taken(name(1), true), Event::Taken(name(2), true)];
    let again = |state: &mut State, changed: bool| {
        assert_eq!(told(state, Event::Begin), "Save c1:SubsetsCome c2:SubsetsCome");
        state.step(Event::Taken(name(1), false));
        assert_eq!(told(state, Event::Taken(name(2), false)), "Save c1:Shadow");
        told(state, Event::Taken(name(1), changed))
    };
    let mut state = tried_first(OnFailure::Stop);
    begin.into_iter().for_each(|event| drop(state.step(event)));
    state.step(Event::Taken(name(1), true));
    state.step(Event::Passed(name(1)));
    assert_eq!(told(&mut state, Event::Pause), "Save Rest");
    assert_eq!(again(&mut state, false), "c1?", "it was not watched for its time");
    assert_eq!(told(&mut state, Event::Passed(name(1))), "Save Watch(0)");
    assert_eq!(told(&mut state, Event::Baked), "Save c1:RoutesCome");
    state.step(Event::Pause);
    assert_eq!(told(&mut state, Event::Taken(name(1), true)), "Save Rest");
    let kept = serde_json::to_string(&state).unwrap();
    assert_eq!(again(&mut state, false), "Save c1:RoutesCome", "it was tried");
    let mut state: State = serde_json::from_str(&kept).unwrap();
    assert_eq!(again(&mut state, true), "c1?", "somebody has taken away what was tried");
}

#[test]
fn a_record_of_a_rollout_that_tries_nothing_is_what_it_was_before_there_were_trials() {
    let state = two_waves(OnFailure::Stop);
    let text = serde_json::to_string(&state).unwrap();
    assert!(!text.contains("shadow") && !text.contains("tried"), "{text}");
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
}
