//! The one integration binary.

mod cli;
mod decode;
mod device;
mod gpu;
mod gradients;
mod infer;
mod layers;
mod networks;
mod oracle;
mod oracle_train;
mod parity;
mod reflection;
mod shared;

fn main() -> std::process::ExitCode {
    let args = libtest_mimic::Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(decode::trials());
    trials.extend(reflection::trials());
    trials.extend(device::trials());
    trials.extend(parity::trials());
    trials.extend(layers::trials());
    trials.extend(gradients::trials());
    trials.extend(networks::trials());
    trials.extend(infer::trials());
    trials.extend(oracle::trials());
    trials.extend(cli::trials());
    libtest_mimic::run(&args, trials).exit_code()
}
