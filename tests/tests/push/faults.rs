use std::time::Duration;

use isthmus::push::registry::Reach;
use isthmus::reference::ManifestDigest;
use isthmus_tests::registry::{Fault, Proxy, Registry, Setup};

use super::{image, pushed, reach};

/// A registry behind a proxy, and where to push.
async fn behind() -> Option<(Registry, Proxy, String)> {
    let registry = Registry::start(Setup::default()).await?;
    let proxy = Proxy::before(registry.address()).await;
    let to = format!("{}/isthmus:v1", proxy.address());
    Some((registry, proxy, to))
}

fn answer(code: u16) -> Fault {
    Fault::Answer(code, Vec::new(), r#"{"errors":[{"code":"UNKNOWN","message":"out of order"}]}"#.to_owned())
}

fn hasty(seconds: u64) -> Reach {
    Reach { timeout: Duration::from_secs(seconds), ..reach() }
}

/// Whether the tag is there.
async fn is_there(registry: &Registry) -> bool {
    registry
        .storage()
        .join("docker/registry/v2/repositories/isthmus/_manifests/tags/v1/current/link")
        .is_file()
}

#[tokio::test]
async fn what_breaks_a_call_once_breaks_no_push() {
    let Some((_registry, proxy, to)) = behind().await else { return };
    let image = image();
    let calls = [
        "GET /v2/ ",
        "GET /v2/isthmus/manifests/v1",
        "HEAD /v2/isthmus/blobs/",
        "POST /v2/isthmus/blobs/uploads/",
        "PUT /v2/isthmus/blobs/uploads/",
        "PUT /v2/isthmus/manifests/v1",
        "GET /v2/isthmus/manifests/sha256:",
        "GET /v2/isthmus/blobs/",
    ];
    // Everything once, each in its turn, so that every call is tried twice.
    for (number, call) in calls.iter().enumerate() {
        let call = call.trim_end();
        let fault = match number % 3 {
            0 => Fault::Cut,
            1 => answer(500),
            _ => answer(503),
        };
        proxy.times(1, call, fault);
    }
    let done = pushed(&image, &to, &reach()).await.expect("pushed all the same");
    assert!(!done.was_there);
    let seen: Vec<_> = proxy.seen().into_iter().map(|(_, line)| line).collect();
    for call in calls {
        let count = seen.iter().filter(|line| line.starts_with(call.trim_end())).count();
        assert!(count >= 2, "{call} was tried again: {seen:#?}");
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_begins_anew_and_one_that_only_lost_its_answer_is_done() {
    let Some((registry, proxy, to)) = behind().await else { return };
    let image = image();
    let put = "PUT /v2/isthmus/blobs/uploads/";
    proxy.times(1, put, Fault::CutInside);
    proxy.times(1, put, Fault::CutAfter);
    pushed(&image, &to, &reach()).await.expect("pushed all the same");
    let seen = proxy.seen();
    let count = |start: &str| seen.iter().filter(|(_, line)| line.starts_with(start)).count();
    // The config twice, as its second upload arrived, and the layer once.
    assert_eq!((count(put), count("POST")), (3, 3));
    assert!(is_there(&registry).await);
}

#[tokio::test]
async fn a_registry_that_goes_in_the_middle_is_told_and_the_same_push_goes_on_later() {
    let Some((mut registry, proxy, to)) = behind().await else { return };
    let image = image();
    proxy.always("PUT /v2/isthmus/blobs/uploads/", Fault::CutInside);
    let said = pushed(&image, &to, &reach()).await.expect_err("it cannot be done");
    assert!(said.contains("cannot upload") && said.contains("no answer"), "{said}");
    assert!(!is_there(&registry).await, "no tag before all is there");
    registry.stop();
    proxy.heal();
    let said = pushed(&image, &to, &reach()).await.expect_err("nobody is there");
    assert!(said.contains("failed with 502"), "{said}");
    let gone = registry.address().to_owned();
    let said = pushed(&image, &format!("{gone}/isthmus:v1"), &reach()).await.expect_err("nobody is there");
    assert!(said.starts_with(&gone) && said.contains("Connection refused"), "{said}");
    assert!(registry.resume().await);
    assert!(!pushed(&image, &to, &reach()).await.expect("pushed").was_there);
    assert!(is_there(&registry).await);
}

#[tokio::test]
async fn a_registry_that_wants_to_be_left_alone_is_for_as_long_as_it_says() {
    let Some((_registry, proxy, to)) = behind().await else { return };
    let image = image();
    let later = |seconds: u64| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
        Fault::Answer(429, vec![("retry-after", seconds.to_string())], body.to_owned())
    };
    proxy.times(1, "POST", later(2));
    pushed(&image, &to, &reach()).await.expect("pushed after a while");
    let posts: Vec<_> = proxy.seen().into_iter().filter(|(_, line)| line.starts_with("POST")).collect();
    let [first, second, ..] = posts.as_slice() else { panic!("{posts:?}") };
    assert!(second.0.duration_since(first.0) >= Duration::from_secs(2), "it was asked again too early");
    // Longer than we may wait: said at once, and nothing is asked again.
    proxy.always("GET /v2/isthmus/manifests", later(3600));
    let said = pushed(&image, &to, &reach()).await.expect_err("too long");
    assert!(said.contains("asks to wait for 3600s") && said.contains("slow down"), "{said}");
    assert_eq!(proxy.seen().len(), 2);
}

#[tokio::test]
async fn a_registry_that_always_fails_is_told_with_what_it_says() {
    let Some((registry, proxy, to)) = behind().await else { return };
    proxy.always("PUT /v2/isthmus/manifests", answer(500));
    let said = pushed(&image(), &to, &reach()).await.expect_err("it cannot be done");
    assert!(
        said.contains("cannot write isthmus:v1: the registry failed with 500 (UNKNOWN: out of order)"),
        "{said}"
    );
    assert!(!is_there(&registry).await);
}

#[tokio::test]
async fn what_is_read_again_and_is_another_is_never_called_pushed() {
    let Some((_registry, proxy, to)) = behind().await else { return };
    let image = image();
    for (call, fault, wanted) in [
        ("GET /v2/isthmus/blobs/", Fault::Lie, "was asked for"),
        ("GET /v2/isthmus/blobs/", Fault::Short, "was asked for"),
        ("GET /v2/isthmus/blobs/", Fault::Half, "no answer"),
        ("GET /v2/isthmus/blobs/", answer(404), "it is not there"),
        ("GET /v2/isthmus/manifests/sha256:", Fault::Lie, "was asked for"),
        ("GET /v2/isthmus/manifests/sha256:", answer(404), "nothing has its digest"),
    ] {
        proxy.always(call, fault.clone());
        let said = pushed(&image, &to, &reach()).await.expect_err("not the same");
        assert!(said.contains("was pushed, and"), "{fault:?}: {said}");
        assert!(said.contains("do not roll it out") && said.contains(wanted), "{fault:?}: {said}");
        proxy.heal();
    }
    pushed(&image, &to, &reach()).await.expect("the same, when nothing lies");
}

#[tokio::test]
async fn a_tag_that_somebody_else_takes_meanwhile_is_told() {
    let Some((_registry, proxy, to)) = behind().await else { return };
    let tag = "GET /v2/isthmus/manifests/v1";
    let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#;
    proxy.times(1, tag, Fault::Answer(404, Vec::new(), unknown.to_owned()));
    proxy.always(tag, Fault::Answer(200, Vec::new(), r#"{"schemaVersion":2}"#.to_owned()));
    let said = pushed(&image(), &to, &reach()).await.expect_err("it is another's");
    let wanted = format!("the tag has {}", ManifestDigest::of(br#"{"schemaVersion":2}"#));
    assert!(said.contains(&wanted) && said.contains(&image().digest().to_string()), "{said}");
}

#[tokio::test]
async fn a_registry_that_is_slow_is_given_up_in_time() {
    let Some((registry, proxy, to)) = behind().await else { return };
    proxy.always("PUT /v2/isthmus/blobs/uploads/", Fault::Hang);
    let said = pushed(&image(), &to, &hasty(1)).await.expect_err("too slow");
    assert!(said.contains("no answer within 1s: --registry-timeout"), "{said}");
    assert!(!is_there(&registry).await);
}

#[tokio::test]
async fn a_registry_that_takes_nothing_says_so() {
    let Some(mut registry) = Registry::start(Setup { read_only: true, ..Setup::default() }).await else {
        return;
    };
    let to = format!("{}/isthmus:v1", registry.address());
    let said = pushed(&image(), &to, &reach()).await.expect_err("read-only");
    assert!(said.contains("takes nothing now (Method not allowed)"), "{said}");
    registry.restart(false).await;
    pushed(&image(), &to, &reach()).await.expect("pushed");
    registry.restart(true).await;
    assert!(pushed(&image(), &to, &reach()).await.expect("only read").was_there);
}

#[tokio::test]
async fn a_registry_without_space_says_so() {
    let Some((registry, proxy, to)) = behind().await else { return };
    // What Debian's registry answers on a disk that is full.
    let detail = r#"{"Op":"write","Path":"/var/lib/docker-registry/x","Err":28}"#;
    let full = format!(r#"{{"errors":[{{"code":"UNKNOWN","message":"unknown error","detail":{detail}}}]}}"#);
    proxy.always("PUT /v2/isthmus/blobs/uploads/", Fault::Answer(500, Vec::new(), full));
    let said = pushed(&image(), &to, &reach()).await.expect_err("full");
    assert!(said.contains("no space is left"), "{said}");
    assert!(!is_there(&registry).await);
}

#[tokio::test]
async fn what_is_no_registry_is_told_so() {
    let Some((_registry, proxy, to)) = behind().await else { return };
    for code in [200, 404, 400] {
        let page =
            Fault::Answer(code, vec![("content-type", "text/html".to_owned())], "<h1>hello</h1>".to_owned());
        proxy.always("/v2/", page);
        let said = pushed(&image(), &to, &reach()).await.expect_err("no registry");
        assert!(said.contains("is no registry"), "{code}: {said}");
        proxy.heal();
    }
}
