use super::*;

fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, text)| ((*name).to_owned(), format!("{HEADER}{text}"))).collect()
}

#[test]
fn only_what_changed_is_written_and_only_what_was_ours_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let first = texts(&[("a/10-x.yaml", "x: 1\n"), ("a/20-y.yaml", "y: 1\n"), ("README.md", "")]);
    assert_eq!(write(directory.path(), &first).unwrap(), (3, 0));
    assert_eq!(write(directory.path(), &first).unwrap(), (0, 0));
    std::fs::write(directory.path().join("a/isthmus-outbound.yaml"), "kind: WasmPlugin\n").unwrap();
    let second = texts(&[("a/10-x.yaml", "x: 2\n"), ("README.md", "")]);
    assert_eq!(write(directory.path(), &second).unwrap(), (1, 1));
    let left: Vec<PathBuf> = entries(&directory.path().join("a")).unwrap();
    let left: Vec<_> = left.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(left, ["10-x.yaml", "isthmus-outbound.yaml"]);
}

#[test]
fn the_books_of_all_clusters_are_one_and_one_that_lies_is_named() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(book(&directory.path().join("nowhere")).unwrap(), Book::default());
    let put = |cluster: &str, data: &str| {
        let path = directory.path().join(cluster);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(BOOK), format!("kind: ConfigMap\ndata: {data}\n")).unwrap();
    };
    put("east", "{a.x: 240.0.0.1}");
    put("west", "{a.x: 240.0.0.1, b.x: 240.0.0.2}");
    assert_eq!(book(directory.path()).unwrap().iter().count(), 2);
    for data in ["{a.x: 240.0.0.3}", "{a.x: here}", "{c.x: 240.0.0.2}"] {
        put("west", data);
        put("east", "{a.x: 240.0.0.1, b.x: 240.0.0.2}");
        let error = book(directory.path()).unwrap_err().to_string();
        assert!(error.contains("west/70-addresses.yaml is not a book"), "{error}");
    }
    put("west", "[");
    assert!(book(directory.path()).unwrap_err().to_string().contains("as YAML"));
}
