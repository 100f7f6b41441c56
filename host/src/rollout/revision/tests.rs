use std::path::PathBuf;

use super::*;
use crate::rollout::Target;
use crate::rollout::directory;
use crate::rollout::steps::Step;

fn rendered(says: &str) -> Rendered {
    let part = |file: &str, sort: Sort| Part {
        file: file.to_owned(),
        sort,
        object: json!({"kind": "x", "metadata": {"name": file}, "spec": {"says": says}}),
    };
    let parts = vec![
        part("isthmus-destination@shop.web.yaml", Sort::Native(Kind::DestinationRule)),
        part("isthmus-route@shop.web.yaml", Sort::Native(Kind::VirtualService)),
        part("isthmus-outbound.yaml", Sort::Plugin),
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
    let objects = objects(shelf, number, rendered, &origin).unwrap();
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
