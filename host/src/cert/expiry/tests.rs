use super::*;
use crate::cert::{KeyKind, Options};

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::days(20_000));

#[test]
fn what_ends_within_the_warning_is_told_and_what_has_ended_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let hierarchy = Hierarchy::at(dir.path());
    let lifetime = Duration::days(100);
    let options =
        Options { key: KeyKind::P256, root_lifetime: lifetime * 2, intermediate_lifetime: lifetime };
    hierarchy.ensure(&["cluster1", "cluster2"], options, NOW).expect("a hierarchy");
    let lives = |days: i64, warning: i64| -> Vec<Life> {
        let all = expiries(&hierarchy, &["cluster1"], NOW + Duration::days(days), Duration::days(warning));
        all.expect("all").iter().map(|expiry| expiry.life).collect()
    };
    assert_eq!(lives(69, 30), [Life::Holds, Life::Holds]);
    assert_eq!(lives(70, 30), [Life::Holds, Life::Ends]);
    assert_eq!(lives(69, 31), [Life::Holds, Life::Ends]);
    assert_eq!(lives(101, 30), [Life::Holds, Life::Ended]);
    assert_eq!(lives(171, 30), [Life::Ends, Life::Ended]);
    assert_eq!(lives(201, 30), [Life::Ended, Life::Ended]);
    assert_eq!(lives(-1, 30), [Life::Begins, Life::Begins]);
}

#[test]
fn a_remedy_names_the_command_and_words_name_the_day() {
    let dir = tempfile::tempdir().expect("a directory");
    let hierarchy = Hierarchy::at(dir.path());
    let options = Options { key: KeyKind::P256, ..Options::default() };
    hierarchy.ensure(&["cluster1"], options, NOW).expect("a hierarchy");
    let later = NOW + Duration::days(3649);
    let all = expiries(&hierarchy, &["cluster1", "not-made"], later, Duration::days(30)).expect("all");
    let told: Vec<(String, &str)> =
        all.iter().map(|expiry| (expiry.says(later), expiry.remedy.as_str())).collect();
    let ends = (NOW + Duration::days(3650)).date();
    assert_eq!(
        told,
        [
            (format!("O=Istio, CN=Root CA ends in 1 days, on {ends}"), "isthmus mesh rotate root"),
            (
                format!("O=Istio, CN=Intermediate CA, L=cluster1 ends in 1 days, on {ends}"),
                "isthmus mesh rotate intermediate cluster1"
            ),
        ]
    );
}
