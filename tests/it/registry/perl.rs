//! Registries of the Perl controller of Mojo::Webqq.

use super::*;

/// Has perl write a registry as the original's controller does; `function` is Storable's.
fn write_perl_registry(path: &Path, function: &str) {
    let program = format!(
        "use Storable qw({function}); my %account = (pid => 32294, port => 5000, pwd => 'hunter2', _tmpdir => '/tmp'); \
         {function}({{'webqq_client_01' => {{%account, client => 'webqq_client_01'}}, '小明' => {{%account}}}}, $ARGV[0]);"
    );
    let status = Command::new("perl").arg("-e").arg(program).arg(path).status().unwrap();
    assert!(status.success());
}

#[test]
fn registry_of_perl_is_moved_aside_and_its_names_are_logged() {
    for function in ["nstore", "store"] {
        let builder = Builder::new();
        let path = builder.path("mojo_webqq_controller_backend.dat");
        write_perl_registry(&path, function);
        let before = fs::read(&path).unwrap();
        let controller = builder.start();
        let moved = controller.path("mojo_webqq_controller_backend.dat.perl");
        assert_eq!(fs::read(&moved).unwrap(), before);
        assert_eq!(fs::metadata(&moved).unwrap().permissions().mode() & 0o777, 0o600, "it holds passwords");
        let log = controller.log.text();
        let line = log.lines().find(|line| line.contains("its clients are not taken over")).unwrap();
        for what in ["webqq_client_01", "小明", moved.to_str().unwrap(), &format!("({} bytes)", before.len())]
        {
            assert!(line.contains(what), "{what}: {line}");
        }
        assert!(!log.contains("hunter2"), "{log}");
        assert!(controller.clients().is_empty());
        controller.start_client("webqq_client_01");
    }
}

#[test]
fn registry_of_perl_whose_names_cannot_be_read_is_moved_aside_too() {
    let builder = Builder::new();
    fs::write(builder.path("mojo_webqq_controller_backend.dat"), "pst0\u{5}\u{b}\u{11}").unwrap();
    let controller = builder.start();
    controller.log.wait_for("their names can't be read");
    assert!(controller.log.text().contains("(7 bytes)"));
}

#[test]
fn registry_of_a_perl_controller_that_runs_is_left_alone() {
    let builder = Builder::new();
    let path = builder.path("mojo_webqq_controller_backend.dat");
    write_perl_registry(&path, "nstore");
    let mut perl = Command::new("perl");
    perl.args(["-e", "$0 = 'wqcontroller'; $| = 1; print qq(ready\n); <STDIN>"]);
    let mut perl = perl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    perl.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    fs::write(builder.path("mojo_webqq_controller_process.pid"), perl.id().to_string()).unwrap();
    let (status, _, said) = run(&mut builder.command(None));
    drop(perl.stdin.take());
    perl.wait().unwrap();
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains(&format!("another wqcontroller (process {}) uses the registry file", perl.id())),
        "{said}"
    );
    assert!(path.exists());
    let controller = builder.start();
    controller.log.wait_for("its clients are not taken over");
}
