use std::collections::BTreeMap;

use super::{LayoutError, read, write};
use crate::push::image::Image;

fn image(note: &str) -> Image {
    let notes = BTreeMap::from([("note".to_owned(), note.to_owned())]);
    Image::of(b"\0asm\x01\0\0\0", &notes).expect("an image")
}

#[test]
fn what_is_written_is_read_by_its_tag_and_a_tag_moves() {
    let room = tempfile::tempdir().expect("a directory");
    let directory = room.path().join("new/layout");
    write(&image("one"), &directory, Some("v1")).expect("written");
    assert_eq!(read(&directory, None).expect("the only one"), image("one"));
    assert_eq!(read(&directory, Some("v9")).expect("the only one, whatever it will be called"), image("one"));
    write(&image("two"), &directory, Some("v2")).expect("written");
    assert_eq!(read(&directory, Some("v1")).expect("one"), image("one"));
    assert_eq!(read(&directory, Some("v2")).expect("two"), image("two"));
    write(&image("three"), &directory, Some("v1")).expect("written");
    assert_eq!(read(&directory, Some("v1")).expect("three"), image("three"));
    let error = read(&directory, None).expect_err("which of two");
    assert!(matches!(&error, LayoutError::Which { known, .. } if *known == ["v2", "v1"]), "{error}");
}

#[test]
fn the_same_written_twice_is_there_once() {
    let room = tempfile::tempdir().expect("a directory");
    for tag in [None, None, Some("v1"), Some("v1")] {
        write(&image("one"), room.path(), tag).expect("written");
    }
    let index = std::fs::read_to_string(room.path().join("index.json")).expect("an index");
    assert_eq!(index.matches("\"digest\"").count(), 1, "{index}");
}

#[test]
fn other_things_in_a_directory_stay_as_they_are() {
    let room = tempfile::tempdir().expect("a directory");
    std::fs::write(room.path().join("letter"), "dear").expect("a file");
    let error = write(&image("one"), room.path(), None).expect_err("not ours");
    assert!(matches!(error, LayoutError::Foreign(_)), "{error}");
    assert_eq!(std::fs::read_dir(room.path()).expect("a directory").count(), 1);
}

#[test]
fn a_layout_that_was_damaged_on_its_way_is_not_pushed() {
    let room = tempfile::tempdir().expect("a directory");
    write(&image("one"), room.path(), None).expect("written");
    let blob = |image: &Image, at: usize| room.path().join("blobs/sha256").join(image.blobs()[at].digest());
    let layer = blob(&image("one"), 1);
    let whole = std::fs::read(&layer).expect("a blob");
    std::fs::write(&layer, &whole[1..]).expect("a file");
    assert!(matches!(read(room.path(), None), Err(LayoutError::Mismatch(path)) if path == layer));
    std::fs::remove_file(&layer).expect("gone");
    assert!(matches!(read(room.path(), None), Err(LayoutError::Read { path, .. }) if path == layer));
    std::fs::write(room.path().join("index.json"), "{}").expect("a file");
    assert!(matches!(read(room.path(), None), Err(LayoutError::Shape { .. })));
}
