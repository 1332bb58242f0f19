"""What benchmarks/unchanged.py runs: commands as a user would type them, on drawn data and seeded weights.

A home ($KDCACHE_HOME) holds one cache, which `kdtrain` then finds by itself; the runs of the home `teachers`,
which comes first, are linked into every other one. `{room}` is the folder of the homes and the data. Between
them the commands pass through both tasks, both formats, every kind of view and codec, and every step form.
"""

from typing import NamedTuple

TEACHERS = "teachers"
SIZE, CLASSES = 16, 4  # of the classification arrays; pixels a side
ROWS = {"train": 40, "test": 16}
STEPS = 20

_MACHINE = "--device cpu --threads 1"
_TRAIN = f"--log none {_MACHINE}"
_SCENES = "--data demo:{room}/demo"
_ARRAYS = "--data npz:{room}/arrays.npz"
# Caches of the demo are built of its 60 scenes of 'val': 'train' has 240.
_PSPNET = f"--student pspnet:test_resnet --weights none --batch-size 4 --lr 0.01 --steps {STEPS} {_TRAIN}"
_RESNET8 = f"--student resnet8 --batch-size 8 --lr 0.05 --steps {STEPS} {_TRAIN}"
_BUILD_SCENES = f"--teacher scenes --split val --crop 64 --shard-rows 16 {_MACHINE}"
_BUILD_ARRAYS = f"--shard-rows 12 {_MACHINE}"  # 36 training rows, mixed inside a shard
_COLOUR = "rrc=0.3,flip,jitter=0.4x0.4x0.4x0.1,randaugment=2x9,erase=0.5"
_QUEUES = "contrast_pixels=64,contrast_regions=16,pixel_memory=40,region_memory=10"
_CRITIC = "skds-holistic(levels=1,optimizer=adam,adversarial=hinge,first=student,weight=0.001)"


class Job(NamedTuple):
    home: str
    command: str


def _jobs(home: str, *commands: str) -> tuple[Job, ...]:
    return tuple(Job(home, command) for command in commands)


_SCENES_TEACHER = (
    f"--loss none {_SCENES} --weights none --crop 64 --batch-size 4 --lr 0.01 --steps 3 {_TRAIN}"
)
_ARRAYS_TEACHER = f"--loss none {_ARRAYS} --batch-size 8 --lr 0.05 --steps 3 {_TRAIN}"
TEACHER_RUNS = _jobs(
    TEACHERS,
    f"kdtrain --run scenes --student deeplabv3:test_resnet {_SCENES_TEACHER}",
    f"kdtrain --run arrays --student resnet14 {_ARRAYS_TEACHER}",
    f"kdtrain --run other --student wrn-10-1 --seed 1 {_ARRAYS_TEACHER}",
)
OF_SCENES = (
    *_jobs(
        "scenes-crops",  # zarr; grown by taps, one of them reduced, and by a view
        f"kdcache build --views crops:2 --tap stage4 --tap logits {_BUILD_SCENES}",
        f"kdcache build --for 'cirkd,at(cache=attention)' --tap stage3=fp16 --split val {_MACHINE}",
        f"kdcache build --views crops:3 --split val {_MACHINE}",
        f"kdtrain --run afdcd --loss 'afdcd(groups=4)' --accumulate 2 --clip 1 --ema 0.9 {_PSPNET}",
        f"kdtrain --run at --loss 'at(cache=attention)' --optimizer adamw {_PSPNET}",
        f"kdtrain --run sum --loss 'mgd+gdd+pkd+fitnet+skds-pair+rkd' --warmup-steps 3 {_PSPNET}",
        f"kdtrain --run holistic --loss 'skds-holistic(levels=1)' --eval-every 10 {_PSPNET}",
        f"kdtrain --run ifvd --loss 'ifvd+{_CRITIC}' --accumulate 2 {_PSPNET}",
        f"kdtrain --run cirkd --loss 'cirkd({_QUEUES})' {_PSPNET}",
        "kdtrain eval afdcd --split val --out eval/afdcd.json --device cpu",
    ),
    *_jobs(
        "scenes-whole",  # whole images and their mirror images, as tars: windows
        f"kdcache build --views full --mirror --format webdataset {_BUILD_SCENES}",
        f"kdtrain --run windows --loss cwd+kd --crop 48 --lr-schedule cosine --nesterov {_PSPNET}",
    ),
    *_jobs(
        "scenes-both",
        f"kdcache build --views crops:1+full --mirror --tap logits=fp32 --zstd {_BUILD_SCENES}",
        f"kdtrain --run live --loss dist --online --teacher scenes --views stored --aux {_PSPNET}",
    ),
    *_jobs(
        "scenes-fresh",
        f"kdtrain --run none --loss none {_SCENES} --crop 64 --lr-schedule multistep --no-aux {_PSPNET}",
        f"kdtrain --run online --loss cwd+kd --online --teacher scenes {_SCENES} --crop 64 {_PSPNET}",
    ),
)
_PEERS = f"--batch-size 8 --lr 0.05 --steps {STEPS} {_ARRAYS} {_TRAIN}"
OF_ARRAYS = (
    *_jobs(
        "arrays-crops",  # zarr, compressed; colour, erasing and mixing
        f"kdcache build --teacher arrays --for kd,crd,reviewkd --zstd --views crops:3 "
        f"--augment {_COLOUR},mixup=0.3 {_BUILD_ARRAYS}",
        f"kdtrain --run kd --loss kd --lr-schedule multistep --milestones 0.3,0.6 --ema 0.9 {_RESNET8}",
        f"kdtrain --run crd --loss 'crd(negatives=8,dim=8)+kd(stop=2)' {_RESNET8}",
        f"kdtrain --run reviewkd --loss 'reviewkd(warmup=2)' --optimizer adamw {_RESNET8}",
        f"kdtrain --run sum --loss 'dkd+nkd+kd-topk(k=2)+kd-pt+kd-sim+rkd+tfkd-reg' --clip 5 {_RESNET8}",
        "kdtrain eval kd --teacher arrays --split test --out eval/kd.json --device cpu",
    ),
    *_jobs(
        "arrays-tars",  # webdataset, one pass with a reduction; the other mixing
        f"kdcache build --teacher arrays --format webdataset --views crops:2 --tap stage1=fp32 --tap logits "
        f"--for 'at(taps=stage1/stage2,cache=attention)' --augment pad=2,flip,cutmix=1 {_BUILD_ARRAYS}",
        f"kdtrain --run kd --loss 'at(taps=stage1/stage2,cache=attention)+kd' --accumulate 4 {_RESNET8}",
    ),
    *_jobs(
        "arrays-turns",
        f"kdcache build --teacher arrays --for sskd --views turns:2 {_BUILD_ARRAYS}",
        f"kdtrain --run head --loss 'sskd(stage=head)' {_RESNET8}",
        f"kdtrain --run sskd --loss sskd --init head {_RESNET8}",
    ),
    *_jobs(
        "arrays-ensemble",  # side by side: the mean is taken when they are read
        f"kdcache build --teacher arrays,other --views crops:2 {_BUILD_ARRAYS}",
        f"kdtrain --run dkd --loss 'dkd(warmup=2)' {_RESNET8}",
    ),
    *_jobs(
        "arrays-mean",
        f"kdcache build --teacher arrays,other --mean --tap logits --format webdataset {_BUILD_ARRAYS}",
        f"kdtrain --run nkd --loss nkd --amp bf16 {_RESNET8}",
    ),
    *_jobs(
        "arrays-fresh",
        f"kdtrain --run none --loss none {_ARRAYS} --augment {_COLOUR},cutmix=1 --epochs 3 "
        f"--student resnet8x4 --batch-size 8 {_TRAIN}",
        f"kdtrain --run online --loss 'at(taps=stage1)+kd' --online --teacher arrays {_ARRAYS} {_RESNET8}",
        f"kdtrain --run dml --loss dml --student resnet8 {_PEERS}",
        f"kdtrain --run okddip --loss 'okddip(length=2)' --student resnet8 {_PEERS}",
        f"kdtrain --run one --loss 'one(length=2)' --student resnet8 {_PEERS}",
        f"kdtrain --run cl-ilr --loss 'cl-ilr(length=2)' --student wrn-10-1 {_PEERS}",
        f"kdtrain --run byot --loss 'byot(exits=2)' --student resnet8 {_PEERS}",
        f"kdtrain --run dafl --loss 'dafl(latent=10,lr=0.01)' --online --teacher arrays {_ARRAYS} {_RESNET8}",
        "kdtrain eval byot --split val --exit 1 --out eval/byot-exit-1.json --device cpu",
    ),
)
JOBS = (*TEACHER_RUNS, *OF_SCENES, *OF_ARRAYS)
