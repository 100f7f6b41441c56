use std::path::PathBuf;

use super::*;
use crate::rollout::Target;
use crate::rollout::directory;
use crate::rollout::steps::Step;

fn rendered(says: &str) -> Rendered {
    let part = |file: &str, sort: Sort, (api, kind): (&str, &str), (namespace, name): (&str, &str)| Part {
        file: file.to_owned(),
        sort,
        object: Packed::of(&json!({
            "apiVersion": api,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"says": says},
        })),
    };
    let (rule, route) =
        (("networking.istio.io/v1", "DestinationRule"), ("networking.istio.io/v1", "VirtualService"));
    let plugin = ("extensions.istio.io/v1alpha1", "WasmPlugin");
    let web = ("shop", "isthmus-web");
    let parts = vec![
        part("isthmus-destination@shop.web.yaml", Sort::Native(Kind::DestinationRule), rule, web),
        part("isthmus-route@shop.web.yaml", Sort::Native(Kind::VirtualService), route, web),
        part("isthmus-outbound.yaml", Sort::Plugin, plugin, ("istio-system", "isthmus-outbound")),
    ];
    Rendered { digest: "d".repeat(64), parts }
}

fn shelf(path: &std::path::Path) -> Shelf {
    Shelf::new(Target::Directory(PathBuf::from(path)), "istio-system")
}

/// What packs badly.
fn noise(bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        text += &sha256(text.len().to_string());
    }
    text
}

async fn kept(shelf: &Shelf, number: u64, rendered: &Rendered) -> usize {
    let origin = Origin { author: "a\u{1b}b".to_owned(), ..Origin::default() };
    let objects = objects(shelf, number, rendered, &origin).unwrap().0;
    for (name, object) in &objects {
        shelf.put(name, object).await.unwrap();
    }
    objects.len()
}

#[tokio::test]
async fn a_revision_is_read_as_it_was_kept_whatever_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(dir.path());
    for (number, bytes, pieces) in [(1, 10, 1), (2, 1 << 20, 2)] {
        let wanted = rendered(&noise(bytes));
        assert_eq!(kept(&shelf, number, &wanted).await, pieces);
        let read = read(&shelf, number).await.unwrap().unwrap();
        let said = |rendered: &Rendered| {
            let part = |part: &Part| (part.file.clone(), part.sort, part.object.clone());
            (rendered.digest.clone(), rendered.parts.iter().map(part).collect::<Vec<_>>())
        };
        assert_eq!(said(&read), said(&wanted));
    }
    assert!(read(&shelf, 3).await.unwrap().is_none());
    let list = shelf.list().await.unwrap();
    let numbers: Vec<_> =
        listed(&list).iter().map(|(revision, objects)| (revision.number, objects.len())).collect();
    assert_eq!(numbers, [(1, 1), (2, 2)]);
}

#[tokio::test]
async fn a_revision_that_was_changed_or_lacks_a_piece_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(dir.path());
    kept(&shelf, 1, &rendered("one")).await;
    let mut object = shelf.get("isthmus-revision-1").await.unwrap().unwrap();
    let other = Base64::encode_string(&pack(&rendered("another")).unwrap());
    object["binaryData"][FILE] = other.into();
    shelf.put("isthmus-revision-1", &object).await.unwrap();
    let error = read(&shelf, 1).await.unwrap_err().to_string();
    assert!(error.contains("somebody has changed it"), "{error}");

    kept(&shelf, 2, &rendered(&noise(1 << 20))).await;
    directory::take(dir.path(), &Step::Remove("isthmus-revision-2-1.yaml".to_owned())).unwrap();
    let error = read(&shelf, 2).await.unwrap_err().to_string();
    assert!(error.contains("a piece of it is gone"), "{error}");
    let list = shelf.list().await.unwrap();
    assert_eq!(listed(&list).len(), 1, "and nobody is told that it could be");
}

#[tokio::test]
async fn what_is_kept_brings_nothing_that_a_rollout_does_not_make_and_leaves_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(dir.path());
    let spoils: [fn(&mut String, &mut Value); 5] = [
        // Whoever may write ConfigMaps is not to be given more by whoever rolls back.
        |_, object| {
            object["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
            object["kind"] = "ClusterRoleBinding".into();
        },
        |_, object| object["kind"] = "EnvoyFilter".into(),
        |file, _| *file = "../isthmus-outbound.yaml".to_owned(),
        |file, object| {
            *file = "isthmus-outbound-/../../x.yaml".to_owned();
            object["metadata"]["name"] = "isthmus-outbound-/../../x".into();
        },
        |_, object| object["metadata"]["name"] = "theirs".into(),
    ];
    for (number, spoil) in (1..).zip(spoils) {
        let mut wanted = rendered("x");
        let part = wanted.parts.last_mut().unwrap();
        let mut object = part.object.open();
        spoil(&mut part.file, &mut object);
        part.object = Packed::of(&object);
        kept(&shelf, number, &wanted).await;
        let told = read(&shelf, number).await.unwrap_err().to_string();
        assert!(told.contains("is nothing that a rollout makes"), "{number}: {told}");
    }
}
