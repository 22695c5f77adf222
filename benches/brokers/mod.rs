//! The brokers of the table: how each is started and stopped.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::mosquitto::{FreePort, Mosquitto};

/// How long a broker may take to listen.
const START_MAX: Duration = Duration::from_secs(90);

/// Starts each broker, or returns why it cannot.
pub const ALL: [fn() -> Result<Broker, String>; 5] = [mosquitto, rabbitmq, nats, aedes, amqtt];

/// A running broker; stopped when dropped.
pub struct Broker {
    pub name: String,
    /// Whether the test's own clients speak MQTT 5 with it.
    pub speaks_v5: bool,
    /// Highest QoS that it accepts from a publisher.
    pub publish_qos_max: i32,
    /// Known to discard what a subscriber had not acknowledged when its connection broke.
    pub forgets_in_flight: bool,
    running: Running,
}

enum Running {
    Mosquitto(Mosquitto),
    Own { port: FreePort, home: TempDir, children: Vec<Child> },
}

impl Broker {
    pub fn port(&self) -> u16 {
        match &self.running {
            Running::Mosquitto(broker) => broker.port(),
            Running::Own { port, .. } => port.number(),
        }
    }

    pub fn log_tail(&self) -> String {
        let log = match &self.running {
            Running::Mosquitto(broker) => broker.log(),
            Running::Own { home, .. } => fs::read_to_string(home.path().join("log")).unwrap_or_default(),
        };
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Self::Own { children, .. } = self else { return };
        // In reverse order: the last one started may need the others in order to stop.
        while let Some(mut child) = children.pop() {
            // Each leads a process group of its own, as some start further processes.
            let group = format!("-{}", child.id());
            for signal in ["-TERM", "-KILL"] {
                let sent = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
                let deadline = Instant::now() + Duration::from_secs(15);
                while sent.is_ok()
                    && Instant::now() < deadline
                    && child.try_wait().is_ok_and(|ended| ended.is_none())
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            let _reaped = child.wait();
        }
    }
}

/// Returns the version that the program prints when it is called with `arguments`.
fn version(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let numbers = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    numbers.map(|word| word.trim_matches('.').to_owned()).find(|word| word.matches('.').count() == 2)
}

/// Returns the first of the paths that exists.
fn found(paths: &[&str]) -> Option<String> {
    paths.iter().find(|path| Path::new(path).exists()).map(|path| (*path).to_owned())
}

/// Starts the program, with its output in `log` in the home directory.
fn spawn(command: &mut Command, home: &Path) -> Child {
    let log = File::options().create(true).append(true).open(home.join("log")).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Waits until the broker accepts connections.
fn listening(name: &str, port: FreePort, home: TempDir, children: Vec<Child>) -> Result<Running, String> {
    let number = port.number();
    let mut running = Running::Own { port, home, children };
    let deadline = Instant::now() + START_MAX;
    while TcpStream::connect(("127.0.0.1", number)).is_err() {
        let Running::Own { children, home, .. } = &mut running else { unreachable!("made above") };
        let ended = children.iter_mut().any(|child| child.try_wait().is_ok_and(|ended| ended.is_some()));
        if ended || Instant::now() > deadline {
            let log = fs::read_to_string(home.path().join("log")).unwrap_or_default();
            return Err(format!("{name} does not start:\n{log}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(running)
}

fn home(name: &str) -> TempDir {
    tempfile::Builder::new().prefix(&format!("andon-{name}-")).tempdir().unwrap()
}

fn mosquitto() -> Result<Broker, String> {
    let version = version("/usr/sbin/mosquitto", &["-h"]).unwrap_or_default();
    Ok(Broker {
        name: format!("Mosquitto {version}"),
        speaks_v5: true,
        publish_qos_max: 2,
        forgets_in_flight: false,
        running: Running::Mosquitto(Mosquitto::start("")),
    })
}

/// Starts its own port mapper: the one that RabbitMQ starts would go on running afterwards.
fn rabbitmq() -> Result<Broker, String> {
    let program = found(&["/usr/lib/rabbitmq/bin/rabbitmq-server"])
        .ok_or("RabbitMQ is not installed (scripts/setup.sh brokers)")?;
    let epmd = found(&["/usr/bin/epmd"]).ok_or("Erlang's epmd is not installed")?;
    let home = home("rabbitmq");
    let (port, epmd_port, dist_port) = (FreePort::find(), FreePort::find(), FreePort::find());
    let file = |name: &str| home.path().join(name);
    let config = format!(
        "listeners.tcp = none\nmqtt.listeners.tcp.default = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n\
         mqtt.vhost = /\nmqtt.exchange = amq.topic\n"
    );
    fs::write(file("rabbitmq.conf"), config).unwrap();
    fs::write(file("plugins"), "[rabbitmq_mqtt].\n").unwrap();
    let mapper = spawn(Command::new(epmd).args(["-port", &epmd_port.to_string()]), home.path());
    let mut command = Command::new(program);
    command
        .env("HOME", home.path())
        .env("ERL_EPMD_PORT", epmd_port.to_string())
        .env("RABBITMQ_DIST_PORT", dist_port.to_string())
        .env("RABBITMQ_NODENAME", format!("andon{port}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
        .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
        .env("RABBITMQ_LOG_BASE", file("logs"))
        .env("RABBITMQ_PID_FILE", file("pid"));
    let server = spawn(&mut command, home.path());
    let listed = Command::new("dpkg-query").args(["-W", "-f", "${Version}", "rabbitmq-server"]).output();
    let version =
        listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    Ok(Broker {
        name: format!("RabbitMQ {}", version.split('-').next().unwrap_or_default()),
        speaks_v5: false,
        publish_qos_max: 1,
        forgets_in_flight: false,
        running: listening("RabbitMQ", port, home, vec![mapper, server])?,
    })
}

fn nats() -> Result<Broker, String> {
    let program = found(&["/usr/sbin/nats-server", "/usr/bin/nats-server"])
        .ok_or("NATS is not installed (scripts/setup.sh brokers)")?;
    let home = home("nats");
    let (port, own_port) = (FreePort::find(), FreePort::find());
    let config = format!(
        "listen: 127.0.0.1:{own_port}\nserver_name: andon\njetstream {{ store_dir: {:?} }}\nmqtt {{ listen: 127.0.0.1:{port} }}\n",
        home.path().join("jetstream")
    );
    let file = home.path().join("nats.conf");
    fs::write(&file, config).unwrap();
    let version = version(&program, &["--version"]).unwrap_or_default();
    let server = spawn(Command::new(program).arg("-c").arg(file), home.path());
    Ok(Broker {
        // QoS 2 came with 2.10.
        publish_qos_max: if version.starts_with("2.9") { 1 } else { 2 },
        forgets_in_flight: false,
        name: format!("NATS {version} with JetStream"),
        speaks_v5: false,
        running: listening("NATS", port, home, vec![server])?,
    })
}

/// A broker for Node.js. It keeps sessions in memory.
fn aedes() -> Result<Broker, String> {
    let modules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/brokers/node_modules");
    let manifest = fs::read_to_string(modules.join("aedes/package.json"));
    let manifest = manifest.map_err(|_| "aedes is not installed (scripts/setup.sh brokers)")?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let home = home("aedes");
    let port = FreePort::find();
    let script = format!(
        "import {{ createServer }} from 'node:net';\nimport {{ Aedes }} from {:?};\n\
         const broker = await Aedes.createBroker();\n\
         createServer(broker.handle).listen({port}, '127.0.0.1');\n",
        modules.join("aedes/aedes.js")
    );
    let file = home.path().join("broker.mjs");
    fs::write(&file, script).unwrap();
    let server = spawn(Command::new("node").arg(file), home.path());
    Ok(Broker {
        name: format!("aedes {}", manifest["version"].as_str().unwrap_or_default()),
        speaks_v5: false,
        publish_qos_max: 2,
        forgets_in_flight: false,
        running: listening("aedes", port, home, vec![server])?,
    })
}

/// A broker for Python. It keeps sessions in memory, and none for a client that its plugin for anonymous clients admitted;
/// our plugin admits every client.
fn amqtt() -> Result<Broker, String> {
    let programs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/brokers/python/bin");
    let program = programs.join("amqtt");
    if !program.exists() {
        return Err("amqtt is not installed (scripts/setup.sh brokers)".to_owned());
    }
    let home = home("amqtt");
    let port = FreePort::find();
    let plugin = "from amqtt.plugins.base import BaseAuthPlugin\n\nclass AdmitAll(BaseAuthPlugin):\n    \
                  async def authenticate(self, *, session):\n        return True\n";
    fs::write(home.path().join("admit_all.py"), plugin).unwrap();
    let config = format!(
        "listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\nplugins:\n  admit_all.AdmitAll:\n"
    );
    let file = home.path().join("broker.yaml");
    fs::write(&file, config).unwrap();
    let version = version(&program.display().to_string(), &["--version"]).unwrap_or_default();
    let server = spawn(Command::new(program).env("PYTHONPATH", home.path()).arg("-c").arg(file), home.path());
    Ok(Broker {
        name: format!("amqtt {version}"),
        speaks_v5: false,
        publish_qos_max: 2,
        forgets_in_flight: true,
        running: listening("amqtt", port, home, vec![server])?,
    })
}
