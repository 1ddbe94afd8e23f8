//! Images of other manifests than the one that is shipped, built for real: components from elsewhere, and the kernel
//! for metal. `make soak` builds them, and runs a master from each.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use masthead_imagebuild::digest::Digest;
use masthead_imagebuild::inspect;
use masthead_imagebuild::manifest::PROGRAMS;

/// Where the shipped manifest has its components from.
const COMPONENTS: &str = "[components]\nsource = \"build\"\npath = \"components\"\n";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the repository")
}

fn run(command: &mut Command) {
    let status = command.current_dir(repository()).status();
    let status = status.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn imagebuild(arguments: &[&str]) {
    run(Command::new(env!("CARGO_BIN_EXE_imagebuild")).args(arguments));
}

/// The shipped manifest with some of its text replaced.
fn manifest(replacements: &[(&str, &str)]) -> String {
    let path = repository().join("configs/image.toml");
    let text = fs::read_to_string(path).expect("the manifest");
    replacements.iter().fold(text, |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text.replace(old, new)
    })
}

/// Writes `build/variants/NAME.toml`; its path within the repository.
fn write(name: &str, manifest: &str) -> String {
    let folder = repository().join("build/variants");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(format!("{name}.toml")), manifest).expect("written");
    format!("build/variants/{name}.toml")
}

/// Builds what `build/variants/NAME.toml` says, from the shipped inputs, into `build/variants/NAME`.
fn build(manifest: &str) {
    let output = manifest.trim_end_matches(".toml");
    let lock = ["--lock", "configs/image.lock"];
    imagebuild(
        &[
            &["build", "--manifest", manifest, "--output", output],
            &lock[..],
        ]
        .concat(),
    );
}

/// Serves the files of a folder on the loopback interface for as long as the process lives; returns the address.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a client"));
            let mut head = vec![String::new()];
            while reader
                .read_line(head.last_mut().expect("a line"))
                .expect("a request")
                > 2
            {
                head.push(String::new());
            }
            let name = head[0].split(['/', ' ']).nth(2).expect("a path");
            let mut file = File::open(folder.join(name)).expect("a file that is there");
            let length = file.metadata().expect("its size").len();
            let mut stream = reader.into_inner();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            )
            .expect("answered");
            io::copy(&mut file, &mut stream).expect("sent");
        }
    });
    format!("http://{address}")
}

/// The programs of our own build stand for official ones: separate files, one of them in an archive.
#[test]
#[ignore = "needs a built image, and builds two: minutes"]
fn components_from_a_folder_and_from_addresses_make_the_same_root() {
    let root = repository();
    let official = root.join("build/variants/official");
    fs::create_dir_all(&official).expect("a folder");
    // kubectl is for the lab.
    let programs = || PROGRAMS.iter().copied().chain(["kubectl"]);
    for program in programs() {
        let built = root.join("build/image/components").join(program);
        fs::copy(built, official.join(program)).expect("a program of the image");
    }
    let versions = fs::read_to_string(root.join("components/go.mod")).expect("go.mod");
    let versions = masthead_imagebuild::steps::components::requirements(&versions);
    let versions = format!(
        "versions = {{ kubernetes = \"{}\", etcd = \"{}\" }}\n",
        versions["k8s.io/kubernetes"],
        versions["go.etcd.io/etcd/server/v3"].trim_start_matches('v')
    );
    let larger = ("uki = \"70 MB\"", "uki = \"400 MB\"");

    let mut components = format!(
        "[components]\nsource = \"directory\"\npath = \"build/variants/official\"\n{versions}"
    );
    let directory = manifest(&[(COMPONENTS, &components), larger]);
    let path = write("directory", &directory);
    build(&path);

    let archive = official.join("etcd.tar");
    run(Command::new("tar")
        .args(["--create", "--file"])
        .arg(&archive)
        .arg("--transform=s,^,etcd-release/,")
        .arg("--directory")
        .arg(&official)
        .arg("etcd"));
    let server = serve(official.clone());
    components = format!("[components]\nsource = \"urls\"\n{versions}");
    for program in programs() {
        let (file, member) = match program {
            "etcd" => ("etcd.tar", "member = \"etcd-release/etcd\"\n"),
            program => (program, ""),
        };
        let digest = Digest::of(&fs::read(official.join(file)).expect("a program"));
        let (name, url) = (program, format!("{server}/{file}"));
        components = format!(
            "{components}\n[[components.fetch]]\nname = \"{name}\"\nurl = \"{url}\"\nsha256 = \"{digest}\"\n{member}"
        );
    }
    let urls = manifest(&[(COMPONENTS, &components), larger]);
    let path = write("urls", &urls);
    build(&path);

    let packed = |name: &str| {
        let path = root.join("build/variants").join(name).join("root.erofs");
        Digest::of(&fs::read(path).expect("the root"))
    };
    assert_eq!(packed("directory"), packed("urls"));
    let ours = root.join("build/image/root.erofs");
    assert_ne!(packed("urls"), Digest::of(&fs::read(ours).expect("a root")));
    for folder in [official, root.join("build/variants/directory")] {
        fs::remove_dir_all(folder).expect("removed");
    }
}

/// The full flavour of the kernel with drivers of servers, and its own lock.
#[test]
#[ignore = "fetches a kernel of 100 MB, and builds an image: minutes"]
fn an_image_for_metal_is_built() {
    let metal = manifest(&[
        ("flavour = \"cloud\"", "flavour = \"full\""),
        (
            "    \"button\",\n",
            "    \"button\",\n    \"xhci_pci\", \"ehci_pci\", \"usb_storage\", \"uas\",\n    \"megaraid_sas\", \"mpt3sas\",\n    \"bnxt_en\", \"e1000e\", \"i40e\", \"ice\", \"igb\", \
             \"ixgbe\", \"mlx5_core\", \"tg3\",\n",
        ),
        ("uki = \"70 MB\"", "uki = \"80 MB\""),
    ]);
    let path = write("metal", &metal);
    imagebuild(&["lock", "--update", "--manifest", &path]);
    let output = "build/variants/metal";
    imagebuild(&["build", "--manifest", &path, "--output", output]);
    let image = fs::read_dir(repository().join(output)).expect("an image");
    let uki = image
        .map(|entry| entry.expect("an entry").path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("masthead-") && name.ends_with(".efi")
        })
        .expect("a unified kernel image");
    let uki = inspect::inspect(&fs::read(uki).expect("read")).expect("an EFI program");
    let release = uki.kernel_release.expect("a kernel");
    assert!(!release.contains("cloud"), "{release}");
    // erofs needs an algorithm that is a module of its own in this flavour.
    let names: Vec<_> = uki.initrd.iter().map(|entry| &entry.name).collect();
    assert!(
        uki.initrd
            .iter()
            .any(|entry| entry.name == "modules/crc32c_generic.ko"),
        "{names:?}"
    );
}
