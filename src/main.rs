//! The `spikemix` command.

fn main() -> std::process::ExitCode {
    spikemix::cli::main()
}
