use vm_tests::*;
fn main() {
    let c = Cache::open().unwrap();
    let p = Progress::new(|e| {
        if !matches!(e, Event::Bytes { .. }) {
            eprintln!("{e:?}")
        }
    });
    let d = Debian::new(&c, debian::BOOKWORM, &p).unwrap();
    println!("{:?}", d.candidate("linux-image-cloud-amd64"));
    println!(
        "{:?}",
        d.candidate("linux-image-nonsense")
            .map_err(|e| e.to_string())
    );
    let deps = d.depends("linux-image-cloud-amd64").unwrap();
    println!("{deps:?}");
    println!(
        "{:?}",
        d.unpack(&[deps[0].as_str()], debian::Closure::Named)
    );
    println!(
        "{:?}",
        d.unpack(
            &["bash", "iproute2"],
            debian::Closure::Dependencies {
                without: &["perl", "libperl"]
            }
        )
    );
}
