//! The one integration binary.

mod device;
mod gpu;
mod parity;
mod reflection;

fn main() -> std::process::ExitCode {
    let args = libtest_mimic::Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(reflection::trials());
    trials.extend(device::trials());
    trials.extend(parity::trials());
    libtest_mimic::run(&args, trials).exit_code()
}
