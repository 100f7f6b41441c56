//! The schedules that real servers are played, played with the machine alone.

use std::collections::BTreeSet;

use isthmus::rollout::machine::{End, Goal};
use isthmus_tests::schedule::{FATES, Order, Run, Schedule, World};

#[test]
fn whatever_a_schedule_has_happen_no_route_leads_nowhere_and_it_ends_where_it_should() {
    let mut seen = BTreeSet::new();
    for seed in 0..5000 {
        let schedule = Schedule::of(seed);
        let mut world = World::new(&schedule);
        for run in &schedule.runs {
            if world.is_over() {
                break;
            }
            let played = world.play(*run);
            seen.extend(played.struck.map(|struck| struck.strike.fate));
            if let Some(end @ (End::Complete | End::Undone)) = played.end {
                assert!(world.is_at(end), "{seed}: {schedule:?} {world:?}");
            }
        }
        if !world.is_over() {
            let played = world.play(Run { order: Order::Resume, strike: None });
            let end = if world.record().goal() == Goal::New { End::Complete } else { End::Undone };
            assert_eq!((played.end, world.is_at(end)), (Some(end), true), "{seed}: {schedule:?} {world:?}");
        }
    }
    assert_eq!(seen, FATES.into(), "each has happened");
}
