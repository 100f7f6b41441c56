use super::*;

fn lease(holder: &str, renewed: &str) -> Value {
    json!({"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed}})
}

fn judged(sights: &[(u64, &str, &str)]) -> Vec<Claim> {
    let start = Instant::now();
    let mut watcher = Watcher::default();
    let judge = |(second, holder, renewed): &(u64, &str, &str)| {
        watcher.judge(&lease(holder, renewed), "us", start + Duration::from_secs(*second))
    };
    sights.iter().map(judge).collect()
}

#[test]
fn a_lease_is_free_when_it_was_seen_unchanged_for_its_time_and_whatever_clocks_say_is_nothing_to_it() {
    // An hour behind, an hour ahead, and no time at all.
    for renewed in ["2026-11-21T11:00:00.000000Z", "2126-11-21T13:00:00.000000Z", "soon"] {
        let sights =
            [(0, "them", renewed), (7, "them", renewed), (14, "them", renewed), (15, "them", renewed)];
        assert_eq!(
            judged(&sights),
            [Claim::Unclear, Claim::Unclear, Claim::Unclear, Claim::Free],
            "{renewed}"
        );
    }
}

#[test]
fn who_renews_lives_and_who_comes_instead_does_too() {
    assert_eq!(judged(&[(0, "them", "a"), (5, "them", "b")]), [Claim::Unclear, Claim::Taken]);
    // A clock that was set back is a change as well.
    assert_eq!(judged(&[(0, "them", "b"), (20, "them", "a")]), [Claim::Unclear, Claim::Taken]);
    assert_eq!(judged(&[(0, "them", "a"), (5, "others", "a")]), [Claim::Unclear, Claim::Taken]);
}

#[test]
fn nobody_waits_for_a_lease_that_says_to_hold_for_ever() {
    let mut lease = lease("them", "a");
    lease["spec"]["leaseDurationSeconds"] = u64::MAX.into();
    let (mut watcher, now) = (Watcher::default(), Instant::now());
    assert_eq!(watcher.judge(&lease, "us", now), Claim::Unclear);
    assert_eq!(watcher.judge(&lease, "us", now + Duration::from_secs(1)), Claim::Taken);
}

#[test]
fn a_lease_that_was_given_back_can_be_had_at_once() {
    assert_eq!(judged(&[(0, "", "a")]), [Claim::Free]);
    assert_eq!(judged(&[(0, "them", "a"), (1, "", "a")]), [Claim::Unclear, Claim::Free]);
    assert_eq!(judged(&[(0, "us", "a")]), [Claim::Ours]);
}

#[test]
fn a_directory_is_one_rollouts_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let held = lock(dir.path()).unwrap();
    assert!(matches!(lock(dir.path()), Err(Trouble::Locked { .. })));
    drop(held);
    lock(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing for GitOps to find");
}
