//! The one integration binary.
mod decode;

fn main() {
    let args = libtest_mimic::Arguments::from_args();
    let trials = decode::trials();
    libtest_mimic::run(&args, trials).exit();
}
