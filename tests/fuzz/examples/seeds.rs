//! Gathers what the targets begin with: `seeds OUT` writes `OUT/<target>/*` from the examples, the golden tests and
//! the odd inputs that are kept here.

use std::fs;
use std::path::{Path, PathBuf};

use isthmus_filter::pairs;
use isthmus_fuzz::Request;
use policy::plan::Role;
use policy::{Mesh, Plan, Policy, compile};

/// What a request shows, in the order of `isthmus_fuzz::Request::SHOWN`.
const REQUESTS: [&str; 3] = [
    "ledger.payments:8080\nGET\n/v1/accounts?all\nus-1\ncluster=eu-1\napplication/grpc\n\npayments\nledger\nspiffe://cluster.local/ns/checkout/sa/till\n\
     outbound_.8080_._.ledger.payments.svc.cluster.local\n10.3.0.9:4711\ninbound|8080||",
    "web.shop\nPOST\n/a/../v1/%2e\nnowhere\nx\ntext/html\na\nshop\nweb\nspiffe://cluster.local/ns/batch/sa/night\n\
     outbound_.80_._.web.shop.svc.cluster.local\n192.0.2.1:1\ninbound|80||",
    "LEDGER.payments.svc.cluster.local.\nHEAD\n//v1\\x\n\n\n\nsession=a; user=b",
];

/// A header and claims, which the target signs.
const TOKENS: [&str; 2] = [
    r#"{"alg":"EdDSA","kid":"k1","typ":"JWT"}
{"iss":"us-1","sub":"spiffe://cluster.local/ns/checkout/sa/till","aud":"isthmus:payments","iat":1795000000,"exp":1795000300}"#,
    r#"{"alg":"EdDSA","kid":"k1","typ":"JWT"}
{"iss":"us-1","sub":"spiffe://cluster.local/ns/checkout/sa/till","aud":"isthmus:payments","iat":0,"exp":18446744073709551615}"#,
];

const PATHS: [&str; 16] = [
    "/v1/accounts?all#top",
    "/a/../b/./c",
    "/a/%2e%2E/b",
    "//a//../b",
    "/a\\..\\b",
    "/%41%7e%2f%5C%3a",
    "/%%34%31",
    "/%zz%",
    "/a/..;x=1/b",
    "/a/%2e%2e;/b",
    "/a;v=1/b",
    "/%00",
    "/a b",
    "/é\"<>^`{|}",
    "*",
    "http://host/a",
];

fn main() -> std::io::Result<()> {
    let out = PathBuf::from(std::env::args_os().nth(1).expect("seeds OUT"));
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let repository = here.join("../..");
    let mut seeds = Seeds { out, count: 0 };
    for collection in ["examples", "tests/golden"] {
        for entry in fs::read_dir(repository.join(collection))? {
            seeds.of_project(&entry?.path())?;
        }
    }
    for odd in files(&here.join("odd/yaml"))? {
        let text = fs::read(odd)?;
        seeds.put("mesh", &text)?;
        seeds.put("policy", &text)?;
    }
    for odd in files(&here.join("odd/certificate"))? {
        seeds.put("certificate", &fs::read(odd)?)?;
    }
    for request in REQUESTS {
        let lines: Vec<&str> = request.lines().take(7).collect();
        let map = pairs::encode(&Vec::from_iter(Request::SHOWN.into_iter().zip(lines)));
        seeds.put("headers", &map)?;
    }
    for path in PATHS {
        seeds.put("path", path.as_bytes())?;
    }
    for token in TOKENS {
        seeds.put("token", token.as_bytes())?;
    }
    println!("{} seeds in {}", seeds.count, seeds.out.display());
    Ok(())
}

struct Seeds {
    out: PathBuf,
    count: usize,
}

impl Seeds {
    fn put(&mut self, target: &str, bytes: &[u8]) -> std::io::Result<()> {
        let dir = self.out.join(target);
        fs::create_dir_all(&dir)?;
        self.count += 1;
        fs::write(dir.join(format!("seed-{}", self.count)), bytes)
    }

    /// The mesh, the policies and the plans of a directory that has them.
    fn of_project(&mut self, dir: &Path) -> std::io::Result<()> {
        let file = dir.join("mesh.yaml");
        if !file.is_file() {
            return Ok(());
        }
        let text = fs::read_to_string(file)?;
        self.put("mesh", text.as_bytes())?;
        let mesh = Mesh::read("mesh.yaml", &text).0;
        let mut policies = Vec::new();
        for file in files(&dir.join("policies"))? {
            let text = fs::read_to_string(file)?;
            self.put("policy", text.as_bytes())?;
            if let Some(mesh) = &mesh {
                policies.extend(Policy::read("policy.yaml", &text, mesh.root_namespace()).0);
            }
        }
        let plans = mesh.and_then(|mesh| compile(&mesh, &policies).0).unwrap_or_default();
        for (role, _, plan) in plans.values().flat_map(|plans| plans.parts()) {
            self.of_plan(role, &plan)?;
        }
        Ok(())
    }

    fn of_plan(&mut self, role: Role, plan: &Plan) -> std::io::Result<()> {
        let role = role.as_str();
        let plan = plan.to_json().map_err(std::io::Error::other)?;
        for request in REQUESTS {
            let seed = format!("{{\"role\":\"{role}\",\"digest\":\"\",\"plan\":{plan}}}\n{request}");
            self.put("plan", seed.as_bytes())?;
        }
        Ok(())
    }
}

/// The files of a directory, in order; none where there is no directory.
fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}
