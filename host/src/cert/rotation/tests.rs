use std::collections::BTreeSet;

use super::*;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const LEAF: Duration = Duration::hours(24);
const NAMES: [&str; 3] = ["a", "b", "c"];

fn standing(levels: [Level; 3], signed: Option<OffsetDateTime>) -> Standing {
    Standing { clusters: NAMES.map(str::to_owned).into_iter().zip(levels).collect(), signed }
}

fn ask(clusters: &[String], now: OffsetDateTime) -> Ask<'_> {
    Ask { clusters, applied: true, leaf_lifetime: LEAF, now }
}

/// Whether a cluster trusts the old and the new root; that openssl finds it so is in the certs tier.
fn trusts(level: Level) -> (bool, bool) {
    (level != Level::After, level != Level::Before)
}

/// Whether everybody accepts everybody, those too whose certificate is from the level before.
fn whole(levels: [Level; 3], leaves_hold: bool) -> bool {
    let accepted = |under_new: bool, by: Level| if under_new { trusts(by).1 } else { trusts(by).0 };
    levels.iter().all(|from| {
        let new = *from >= Level::Signed;
        levels.iter().all(|by| accepted(new, *by) && (!(new && leaves_hold) || accepted(false, *by)))
    })
}

/// Every standing that can be reached, with whether certificates under the old root may still hold.
fn reachable() -> BTreeSet<([Level; 3], bool)> {
    let mut found = BTreeSet::from([([Level::Before; 3], false)]);
    let mut open = found.clone();
    while let Some((levels, hold)) = open.pop_first() {
        let any = levels.iter().any(|level| *level >= Level::Signed);
        let mut next: Vec<([Level; 3], bool)> = if hold { vec![(levels, false)] } else { Vec::new() };
        let now = if hold { NOW } else { NOW + LEAF };
        for (index, name) in NAMES.iter().enumerate() {
            let clusters = [(*name).to_owned()];
            if let Ok(moves) = step(&standing(levels, any.then_some(NOW)), ask(&clusters, now)) {
                let mut levels = levels;
                levels[index] = moves[*name];
                next.push((levels, hold || moves[*name] == Level::Signed));
            }
        }
        open.extend(next.into_iter().filter(|state| found.insert(*state)));
    }
    found
}

#[test]
fn in_whatever_order_clusters_go_trust_never_breaks_and_all_get_through() {
    let found = reachable();
    for (levels, hold) in &found {
        assert!(whole(*levels, *hold), "{levels:?}, certificates of before hold: {hold}");
    }
    assert!(found.contains(&([Level::After; 3], false)), "nobody gets through");
    assert!(found.len() > 20, "{found:?}");
}

#[test]
fn nothing_is_refused_that_would_not_break_trust() {
    for (levels, hold) in reachable() {
        let any = levels.iter().any(|level| *level >= Level::Signed);
        for (index, name) in NAMES.iter().enumerate() {
            let Some(to) = levels[index].next() else { continue };
            let clusters = [(*name).to_owned()];
            let now = if hold { NOW } else { NOW + LEAF };
            let refused = step(&standing(levels, any.then_some(NOW)), ask(&clusters, now)).is_err();
            let mut forced = levels;
            forced[index] = to;
            // A certificate of before may be held by whoever has just begun to sign under the new root.
            let breaks = !whole(forced, hold || to == Level::Signed);
            assert_eq!(refused, breaks, "{levels:?} -> {forced:?}, certificates of before hold: {hold}");
        }
    }
}

#[test]
fn a_refusal_names_who_is_behind_and_what_to_do() {
    use Level::{After, Before, Both, Signed};
    let cases = [
        ([Both, Before, Both], "a", "a cannot sign under the new root yet, as b would refuse its workloads"),
        (
            [Signed, Signed, Both],
            "b",
            "b cannot forget the old root yet, as it would refuse the workloads of c",
        ),
        ([Signed, Signed, Signed], "c", "until 1970-01-02 00:00 UTC: wait"),
        ([After, Signed, Signed], "a", "a is through"),
        ([After, Signed, Signed], "x", "x is no cluster of this mesh"),
    ];
    for (levels, cluster, wanted) in cases {
        let refusal = step(&standing(levels, Some(NOW)), ask(&[cluster.to_owned()], NOW)).unwrap_err();
        assert!(refusal.to_string().contains(wanted), "{refusal}");
    }
}

#[test]
fn nobody_goes_on_before_the_step_before_is_said_to_be_in_force() {
    for level in [Level::Both, Level::Signed] {
        let standing = standing([level; 3], Some(NOW));
        let unsaid = Ask { applied: false, ..ask(&[], NOW + LEAF) };
        assert_eq!(step(&standing, unsaid), Err(Refusal::NotApplied));
        assert_eq!(step(&standing, Ask { applied: true, ..unsaid }).map(|moves| moves.len()), Ok(3));
    }
    let first = Ask { applied: false, ..ask(&[], NOW) };
    assert_eq!(step(&standing([Level::Before; 3], None), first).map(|moves| moves.len()), Ok(3));
}

#[test]
fn those_furthest_behind_go_on_where_none_is_named() {
    let standing = standing([Level::Both, Level::Before, Level::Both], None);
    let moves = step(&standing, ask(&[], NOW)).unwrap();
    assert_eq!(moves, BTreeMap::from([("b".to_owned(), Level::Both)]));
}
