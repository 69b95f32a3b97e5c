"""The clean recipe: four stages of the published design, on data whose owners allow commercial use.

Nobody has trained it to its end, so every number has its reason beside it, and where that is a guess it says so. What
the published recipe has and is not mentioned here is kept: order of stages, frames, sizes, optimizer, losses.
"""

from train.recipe.recipe import Rates, Recipe, Stage

# Two sets of people, each lacking what the other has. SynthHuman: 298,008 renderings with exact alpha and with faces,
# but small (384×512, by its paper). P3M-10k: 9,421 photographs of a thousand pixels and more, with blurred faces.
_PEOPLE = ("synthhuman", "p3m_10k")
_SHARP_PEOPLE = ("p3m_10k",)
# PASS has 1.4 million pictures without people, of some 500 pixels. Beside a sharp person their blur would give the
# background away, so where the refiner is trained all backgrounds are those of BG-20k, which are large.
_SHARP_BACKGROUNDS = ("bg_20k",)

CLEAN = Recipe(
    variant="mobilenetv3",
    stages=(
        # Samples in place of epochs: an epoch over images is at least one over backgrounds, and PASS has 1.4 million.
        Stage(
            _PEOPLE,
            epochs=1,
            # Each picture twice: about twice the 317,000 clips as published, since the encoder starts from nothing.
            samples=612_000,
            frames=15,
            # The encoder at the rate of all else: half of it, as published, is for ImageNet's weights, not free.
            rates=Rates(encoder=2e-4, aspp=2e-4, decoder=2e-4, project_mat=2e-4, project_seg=2e-4),
        ),
        Stage(
            _PEOPLE,
            epochs=1,
            samples=10_000,  # the published 9,500 windows of 50 frames in two epochs
            frames=50,
            rates=Rates(encoder=5e-5, aspp=1e-4, decoder=1e-4, project_mat=1e-4, project_seg=1e-4),  # published
        ),
        Stage(
            _SHARP_PEOPLE,
            epochs=1,
            samples=9_300,  # each photograph for training once; the published 5,950 windows of 40 frames in one epoch
            frames=40,
            rates=Rates(1e-5, 1e-5, decoder=1e-5, project_mat=1e-5, project_seg=1e-5, refiner=2e-4),  # published
            high_frames=6,
            backgrounds=_SHARP_BACKGROUNDS,
        ),
        Stage(
            _SHARP_PEOPLE,
            epochs=1,
            samples=46_600,  # each of them five times, as the published stage 4 has five epochs (of 11,100 samples)
            frames=40,
            rates=Rates(1e-5, 1e-5, decoder=5e-5, project_mat=5e-5, project_seg=5e-5, refiner=2e-4),  # published
            high_frames=6,
            backgrounds=_SHARP_BACKGROUNDS,
        ),
    ),
    backgrounds=("pass_backgrounds", "bg_20k"),
    # Half of the published backgrounds are clips, which move. Here all are stills, so half of them are moved.
    background_motion=0.5,
    # The pictures of COCO whose photographers allow commercial use; no free set of clips is known. YouTubeVIS' place is
    # taken by the same stills, moved as often as those of matting, so that the head for segmentation learns with a
    # memory as well.
    segmentation_clips=("coco_person/free",),
    segmentation_stills=("coco_person/free",),
    still_motion=0.95,
    unfree="refuse",
    precision="bfloat16",  # published (as float16)
)
