"""The environment a script sees. Pure: facts in, mapping out."""

from __future__ import annotations

from collections.abc import Mapping

from qm.launchers.base import Start
from qm.launchers.processes import RUN_VARIABLE
from qm.spool.paths import JobPaths
from qm.vocabulary.arrays import read_array
from qm.vocabulary.record import Record, Task

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def parse_kept(data: bytes) -> dict[bytes, bytes]:
    """The variables kept by `qm submit --`, `NAME=value` ended by NUL each; what is no such pair is left out."""
    pairs = (entry.partition(b"=") for entry in data.split(b"\0"))
    return {name: value for name, equals, value in pairs if name and equals}


def job_variables(record: Record, start: Start, paths: JobPaths, root: str) -> dict[str, str]:
    """What QM sets, before the job's own `env_NAME` keys, which win over the thread variables."""
    width = str(record.nb_proc)
    task = start.task
    variables = dict.fromkeys(THREAD_VARIABLES, width)
    variables |= {
        "NB_PROC": width,
        "QM_JOB_NAME": record.name,
        "QM_JOB_ID": record.id,
        "QM_JOB_DIR": paths.dir,
        "QM_ATTEMPT": str(task.attempt),
        "QM_FOLDER": root,
        "QM_PROGRESS": paths.task_progress(task.number),
        RUN_VARIABLE: task.key,
    }
    if start.gpus is not None:
        # What CUDA counts by default is the fastest first; nvidia-smi's numbers are in the order of the PCI bus.
        variables |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, start.gpus))}
    if task.number is not None:
        variables["QM_ARRAY_TASK_ID"] = str(task.number)
    if record.effective.slurm:
        variables |= _slurm_variables(record, task, paths.dir)
    return variables


def _slurm_variables(record: Record, task: Task, job_dir: str) -> dict[str, str]:
    """What a script written for sbatch(1) looks for."""
    options = record.effective
    variables = {
        "SLURM_JOB_ID": record.id,
        "SLURM_JOB_NAME": options.job_name or record.name,
        "SLURM_CPUS_PER_TASK": str(max(1, record.nb_proc // options.ntasks)),
        "SLURM_NTASKS": str(options.ntasks),
        "SLURM_SUBMIT_DIR": job_dir,
    }
    if task.number is not None:
        spec = read_array(options.array)
        variables |= {
            "SLURM_ARRAY_JOB_ID": record.id,
            "SLURM_ARRAY_TASK_ID": str(task.number),
            "SLURM_ARRAY_TASK_COUNT": str(len(spec)),
            "SLURM_ARRAY_TASK_MIN": str(min(part[0] for part in spec.ranges)),
            "SLURM_ARRAY_TASK_MAX": str(max(part[-1] for part in spec.ranges)),
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
