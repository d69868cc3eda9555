//! The command line of fracture.

fn main() -> std::process::ExitCode {
    fracture::cli::main()
}
