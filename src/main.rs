//! The command line of fracture.

fn main() -> std::process::ExitCode {
    // SAFETY: no thread was started yet.
    unsafe { fracture_judge::runtime::silence() };
    fracture::cli::main()
}
