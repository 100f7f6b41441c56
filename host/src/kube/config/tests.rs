use super::*;

const LIMIT: Duration = Duration::from_secs(5);

fn file(directory: &Path, name: &str, context: &str, server: &str) -> PathBuf {
    let path = directory.join(name);
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\n\
         contexts: [{{name: {context}, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    std::fs::write(&path, text).expect("a file");
    path
}

#[test]
fn files_of_a_list_are_merged_and_those_that_are_not_there_passed_over() {
    let dir = tempfile::tempdir().expect("dir");
    let (one, two) = (file(dir.path(), "1", "a", "http://one"), file(dir.path(), "2", "b", "http://two"));
    let gone = dir.path().join("gone");
    let list = std::env::join_paths([&one, &gone, &two]).expect("a list");
    let merged = Kubeconfig::read(None, Some(&list), None).expect("a kubeconfig");
    assert_eq!(merged.contexts().collect::<Vec<_>>(), ["a", "b"]);
    let server = |config: &Kubeconfig| config.0.clusters[0].cluster.clone().expect("a cluster").server;
    assert_eq!(server(&merged).as_deref(), Some("http://one"), "the first to say a thing has the word");

    let named = Kubeconfig::read(Some(&two), Some(&list), None).expect("a kubeconfig");
    assert_eq!(named.contexts().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn what_is_named_must_be_there_and_be_a_kubeconfig() {
    let dir = tempfile::tempdir().expect("dir");
    let gone = dir.path().join("gone");
    let error = Kubeconfig::read(Some(&gone), None, None).expect_err("no file");
    assert!(error.to_string().contains(&gone.display().to_string()), "{error}");
    let error = Kubeconfig::read(None, None, Some(dir.path())).expect_err("nothing at home");
    assert!(matches!(error, KubeconfigError::None), "{error}");
    let other = dir.path().join("other");
    std::fs::write(&other, "clusters: 7").expect("a file");
    let error = Kubeconfig::read(Some(&other), None, None).expect_err("no kubeconfig");
    assert!(matches!(error, KubeconfigError::Read { .. }), "{error}");
    let error = Kubeconfig::read(Some(dir.path()), None, None).expect_err("a directory");
    assert!(error.to_string().ends_with(": Is a directory (os error 21)"), "{error}");
}

#[test]
fn what_is_no_kubeconfig_is_told_by_its_place_and_shows_no_token() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("config");
    for text in [
        "users:\n- name: u\n  user: {token: c2VjcmV0\n",
        "users: c2VjcmV0\n",
        "users: [{name: u, user: c2VjcmV0}]\n",
    ] {
        std::fs::write(&path, text).expect("a file");
        let error = Kubeconfig::read(Some(&path), None, None).expect_err("no kubeconfig");
        let told = format!("{error} {error:?}");
        assert!(told.contains("line ") && !told.contains("c2VjcmV0"), "{told}");
    }
}

#[tokio::test]
async fn a_context_that_is_not_there_is_told_with_those_that_are() {
    let dir = tempfile::tempdir().expect("dir");
    let path = file(dir.path(), "1", "kind-eu-1", "http://one");
    let config = Kubeconfig::read(Some(&path), None, None).expect("a kubeconfig");
    let error = config.cluster("kind-eu-2", LIMIT).await.expect_err("no such context");
    let told = "kind-eu-2: cannot connect: the kubeconfig has no such context; it has kind-eu-1";
    assert_eq!(error.to_string(), told);
}

#[tokio::test]
async fn a_plugin_that_fails_is_told_with_what_it_said() {
    let dir = tempfile::tempdir().expect("dir");
    let path = file(dir.path(), "1", "a", "http://127.0.0.1:1");
    let text = std::fs::read_to_string(&path).expect("a file");
    let exec = "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, 'echo no ticket >&2; exit 3'], interactiveMode: Never}}";
    std::fs::write(&path, text.replace("user: {}", exec)).expect("a file");
    let config = Kubeconfig::read(Some(&path), None, None).expect("a kubeconfig");
    let error = config.cluster("a", LIMIT).await.expect_err("no credentials");
    assert!(matches!(*error.problem, Problem::Credentials { .. }), "{error}");
}
