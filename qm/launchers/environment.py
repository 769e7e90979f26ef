"""The environment a script sees. Pure: facts in, mapping out."""

from __future__ import annotations

from collections.abc import Mapping

from qm.vocabulary.record import Record

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def parse_kept(data: bytes) -> dict[bytes, bytes]:
    """The variables kept by `qm submit --`, `NAME=value` ended by NUL each; what is no such pair is left out."""
    pairs = (entry.partition(b"=") for entry in data.split(b"\0"))
    return {name: value for name, equals, value in pairs if name and equals}


def job_variables(record: Record, job_dir: str, root: str) -> dict[str, str]:
    """What QM sets, before the job's own `env_NAME` keys, which win."""
    options = record.effective
    width = str(record.nb_proc)
    variables = dict.fromkeys(THREAD_VARIABLES, width)
    variables |= {
        "NB_PROC": width,
        "QM_JOB_NAME": record.name,
        "QM_JOB_ID": record.id,
        "QM_JOB_DIR": job_dir,
        "QM_ATTEMPT": str(record.attempt),
        "QM_FOLDER": root,
        "QM_PROGRESS": f"{job_dir}/.qm/run/progress",
    }
    if options.slurm:
        variables |= {
            "SLURM_JOB_ID": record.id,
            "SLURM_JOB_NAME": options.job_name or record.name,
            "SLURM_CPUS_PER_TASK": str(max(1, record.nb_proc // options.ntasks)),
            "SLURM_NTASKS": str(options.ntasks),
            "SLURM_SUBMIT_DIR": job_dir,
        }
    return variables


def script_environment(
    base: Mapping[bytes, bytes],
    kept: Mapping[bytes, bytes],
    variables: Mapping[str, str],
    own: Mapping[str, str],
) -> dict[bytes, bytes]:
    """The daemon's environment, under the submitter's, under QM's, under the job's own.

    A job's `env_NAME`, or the submitter's own setting, of a thread variable stands; the variables that tell
    the job who it is (QM_*, NB_PROC) cannot be changed by either.
    """
    fixed = {name.encode(): value.encode(errors="surrogateescape") for name, value in variables.items()}
    chosen = {name.encode(): value.encode(errors="surrogateescape") for name, value in own.items()}
    soft = {name.encode(): fixed.pop(name.encode()) for name in THREAD_VARIABLES if name in variables}
    return {**base, **soft, **kept, **chosen, **fixed}
