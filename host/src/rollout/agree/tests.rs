use super::*;
use crate::rollout::machine::{Event, Goal, OnFailure, Wave};
use crate::rollout::record::Origin;
use crate::rollout::strategy::Limits;

fn name(name: &str) -> ClusterName {
    name.parse().unwrap()
}

/// Two clusters, one after the other, as far as some events bring them.
fn state(events: &[Event]) -> State {
    let wave = |cluster: &str| Wave {
        name: cluster.to_owned(),
        clusters: [name(cluster)].into(),
        at_once: 1,
        bake: 0,
        shadow: None,
    };
    let mut state = State::new(vec![wave("east"), wave("west")], OnFailure::Stop);
    for event in events {
        state.step(event.clone());
    }
    state
}

/// A rollout of revision 12, in which east has passed.
fn record() -> Record {
    let taken = |cluster| Event::Taken(name(cluster), true);
    let subsets = [Event::Begin, taken("east"), taken("west")];
    let east = [taken("east"), taken("east"), Event::Passed(name("east"))];
    Record {
        id: "genuine".to_owned(),
        revision: 12,
        generation: 7,
        origin: Origin { author: "ann".to_owned(), ..Origin::default() },
        strategy: "careful".to_owned(),
        gates: Limits::default(),
        before: [(name("east"), Some(11)), (name("west"), Some(11))].into(),
        state: state(&[&subsets[..], &east[..]].concat()),
    }
}

fn copy(record: Record, at: u64) -> Copy {
    Copy::said(Some(record), Some(at))
}

fn agreed_of(copies: &[(&str, Copy)]) -> Agreed {
    let copies: BTreeMap<ClusterName, Copy> =
        copies.iter().map(|(cluster, copy)| (name(cluster), copy.clone())).collect();
    agreed(copies.iter())
}

#[test]
fn a_copy_that_missed_the_last_writes_is_of_the_same_rollout() {
    let mut behind = record();
    (behind.generation, behind.state) = (3, state(&[Event::Begin]));
    let agreed = agreed_of(&[("east", copy(record(), 12)), ("west", copy(behind, 11))]);
    assert!(!agreed.torn && agreed.apart.is_empty(), "{agreed:?}");
    let record = agreed.record.unwrap();
    assert_eq!((record.generation, record.before), (7, self::record().before));
    assert!(record.state.has_passed(&name("east")));
}

#[test]
fn a_cluster_speaks_for_itself_alone() {
    let mut forged = record();
    forged.generation = 1_000;
    forged.before = [(name("east"), Some(3)), (name("west"), Some(4))].into();
    forged.state = state(&[
        Event::Begin,
        Event::Taken(name("east"), true),
        Event::Taken(name("west"), true),
        Event::Taken(name("east"), true),
        Event::Taken(name("east"), false),
    ]);
    // East has neither passed nor been where west says that it was.
    let mut own = record();
    own.state = state(&[Event::Begin]);
    let agreed = agreed_of(&[("east", copy(own, 11)), ("west", copy(forged, 11))]);
    let record = agreed.record.unwrap();
    assert_eq!(record.before, [(name("east"), Some(11)), (name("west"), Some(4))].into());
    assert!(!record.state.has_passed(&name("east")), "its own copy does not say so");
}

#[test]
fn no_cluster_is_taken_along_by_a_rollout_that_it_has_not_heard_of() {
    let mut forged = record();
    (forged.id, forged.revision) = ("forged".to_owned(), 13);
    forged.before.insert(name("east"), Some(3));
    let agreed = agreed_of(&[("east", copy(record(), 12)), ("west", copy(forged, 12))]);
    let record = agreed.record.unwrap();
    assert_eq!(agreed.apart, [(name("east"), Apart::Untold)].into());
    let why = Apart::Untold.why(&record, false).unwrap();
    assert!(why.contains("has not heard of rollout forged"), "{why}");
    assert_eq!(Apart::Untold.why(&record, true), None, "what it keeps was made for it");
    assert_eq!(record.before.get(&name("east")), Some(&Some(11)), "what it would go back to, its own says");
}

#[test]
fn another_rollout_of_the_same_revision_takes_no_cluster_along_whatever_it_keeps() {
    let mut forged = record();
    (forged.id, forged.generation) = ("forged".to_owned(), 1_000);
    let agreed = agreed_of(&[("east", copy(record(), 12)), ("west", copy(forged, 12))]);
    let other = Apart::Other("genuine".to_owned());
    assert_eq!(agreed.apart, [(name("east"), other.clone())].into());
    assert!(other.why(&agreed.record.unwrap(), true).is_some());
}

#[test]
fn of_what_a_rollout_was_to_do_most_decide_and_nobody_where_there_are_as_many() {
    let spoils: [fn(&mut Record); 4] = [
        |record| record.gates.traps = Some(99),
        |record| record.strategy = "careless".to_owned(),
        |record| record.origin.author = "eve".to_owned(),
        |record| record.state = State::new(Vec::new(), OnFailure::Undo),
    ];
    for spoil in spoils {
        let mut forged = record();
        forged.generation = 1_000;
        spoil(&mut forged);
        let two = [("east", copy(record(), 12)), ("west", copy(forged.clone(), 12))];
        assert!(agreed_of(&two).torn, "{forged:?}");
        let [east, west] = two;
        let agreed = agreed_of(&[east, ("north", copy(record(), 12)), west]);
        assert!(!agreed.torn);
        assert_eq!(agreed.apart, [(name("west"), Apart::Terms)].into());
        assert_eq!(agreed.record.unwrap().generation, 7);
    }
}

#[test]
fn copies_from_before_and_after_it_turned_back_are_of_one_rollout() {
    let mut back = record();
    back.generation = 8;
    back.state.step(Event::Undo);
    let agreed = agreed_of(&[("east", copy(record(), 12)), ("west", copy(back, 11))]);
    assert!(!agreed.torn && agreed.apart.is_empty(), "{agreed:?}");
    assert_eq!(agreed.record.unwrap().state.goal(), Goal::Old);
}

#[test]
fn without_copies_nothing_is_known() {
    assert_eq!(agreed_of(&[]).record, None);
    assert_eq!(agreed_of(&[("east", Copy::default())]).record, None);
}
