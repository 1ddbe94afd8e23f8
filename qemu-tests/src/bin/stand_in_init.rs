//! A `/init` for tests of the launcher, which need a node before, and without, the real image.
//!
//! It takes the text of the seed for a script, executes it line by line, and says on the console what came of
//! each. Every boot executes the same script.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};

use rtnetlink::LinkUnspec;

fn main() {
    // `lab exec`: one line of a script, in a node that runs.
    if let [_, once, line] = &std::env::args().collect::<Vec<_>>()[..]
        && once == "--once"
    {
        println!("{line}: {:?}", execute(line));
        return;
    }
    println!(
        "stand-in: arguments {:?}",
        std::env::args().skip(1).collect::<Vec<_>>()
    );
    let script = fs::read_to_string("/host/seed.toml").expect("the lab hands the seed in");
    for line in script.lines() {
        match execute(line) {
            Ok(outcome) => println!("stand-in: {line}: {outcome}"),
            Err(error) => println!("stand-in: {line}: error: {error}"),
        }
    }
    println!("stand-in: end of the script");
    loop {
        std::thread::park();
    }
}

fn execute(line: &str) -> io::Result<String> {
    let (verb, object) = line.split_once(' ').unwrap_or((line, ""));
    perform(verb, object)
}

fn perform(verb: &str, object: &str) -> io::Result<String> {
    let done = Ok("done".to_owned());
    match verb {
        // What PID 1 mounts for itself.
        "mount" => {
            for (kind, target) in [
                ("proc", "/proc"),
                ("sysfs", "/sys"),
                ("tmpfs", "/run"),
                ("cgroup2", "/sys/fs/cgroup"),
            ] {
                mount(
                    Some(kind),
                    target,
                    Some(kind),
                    MsFlags::empty(),
                    None::<&str>,
                )?;
            }
            done
        }
        // Into a control group of its own, under the delegated root.
        "join" => {
            let group = Path::new("/sys/fs/cgroup").join(object);
            fs::create_dir_all(&group)?;
            fs::write(group.join("cgroup.procs"), "0")?;
            done
        }
        "write" => File::create(object)?.write_all(b"written").and(done),
        "write-synced" => {
            let mut file = File::create(object)?;
            file.write_all(b"written")?;
            file.sync_all()?;
            if let Some(folder) = Path::new(object).parent() {
                File::open(folder)?.sync_all()?;
            }
            done
        }
        "open-for-writing" => File::options().write(true).open(object).and(done),
        "show" => Ok(fs::read_to_string(object)?.trim().to_owned()),
        "list" => {
            let mut names: Vec<String> = fs::read_dir(object)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<_>>()?;
            names.sort();
            Ok(names.join(" "))
        }
        // Sets the links up, and gives eth0 an address.
        "up" => {
            let address: Ipv4Addr = object.parse().map_err(io::Error::other)?;
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(configure(address))
                .map_err(io::Error::other)?;
            done
        }
        "listen" => {
            let port = object.parse().map_err(io::Error::other)?;
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
            std::thread::spawn(move || {
                for mut connection in listener.incoming().flatten() {
                    let _ = connection.write_all(b"hello from the node\n");
                }
            });
            done
        }
        // Hears what another node's `listen` says.
        "connect" => {
            let address: SocketAddr = object.parse().map_err(io::Error::other)?;
            let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            connection.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut heard = [0; 5];
            connection.read_exact(&mut heard)?;
            Ok(String::from_utf8_lossy(&heard).into_owned())
        }
        // The first time only; `object` is where it remembers.
        "reboot-once" | "power-off-once" => {
            if Path::new(object).exists() {
                return Ok("not again".to_owned());
            }
            perform("write-synced", object)?;
            let mode = if verb == "reboot-once" {
                RebootMode::RB_AUTOBOOT
            } else {
                RebootMode::RB_POWER_OFF
            };
            match reboot(mode) {
                Ok(never) => match never {},
                Err(error) => Err(error.into()),
            }
        }
        // A program and its arguments, left running.
        "run" => {
            let mut words = object.split(' ');
            let program = words.next().unwrap_or_default();
            std::process::Command::new(program).args(words).spawn()?;
            done
        }
        "reboot" => match reboot(RebootMode::RB_AUTOBOOT) {
            Ok(never) => match never {},
            Err(error) => Err(error.into()),
        },
        "exit" => std::process::exit(object.parse().map_err(io::Error::other)?),
        other => Err(io::Error::other(format!("no verb `{other}`"))),
    }
}

async fn configure(address: Ipv4Addr) -> Result<(), rtnetlink::Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|_| rtnetlink::Error::RequestFailed)?;
    tokio::spawn(connection);
    let index =
        |name| nix::net::if_::if_nametoindex(name).map_err(|_| rtnetlink::Error::RequestFailed);
    // What a node says to its own address goes through the loopback link.
    for name in ["lo", "eth0"] {
        let up = LinkUnspec::new_with_index(index(name)?).up().build();
        handle.link().set(up).execute().await?;
    }
    handle
        .address()
        .add(index("eth0")?, address.into(), 24)
        .execute()
        .await
}
