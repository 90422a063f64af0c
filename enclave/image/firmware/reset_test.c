/** @file
  What the reset vector's handler of #VC believes: the firmware that was built, where it is in the VM, run instruction by
  instruction.

  The host may inject #VC at any instruction, with any exit code. Only if code and instruction say CPUID may the handler go on,
  and with SEV-SNP only with what the table of CPUID has; else it ends the VM.

  The handler runs in 32-bit mode, which the processor has for programs too. What programs may not do (registers, VMGEXIT, the
  return from the exception) is done here in its stead. Nothing else of the machine is there: memory that the handler has no
  business with can't be reached.

    reset_test FILE

  SPDX-License-Identifier: BSD-2-Clause-Patent
**/

#define _GNU_SOURCE
#include <Base.h>

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

// As Postern.fdf has them.
#define WORK_AREA     0x80B000
#define RECEIVED_VC   (WORK_AREA + 4 + 24)
#define CPUID_TABLE   0x80E000
#define STACK_TOP     0x820000
// Where the instruction is that #VC is injected at.
#define CODE          0x900000

#define USER_CS_32    0x23
#define USER_DS       0x2B
#define SEV_STATUS    0xC0010131
#define GHCB          0xC0010130
#define GHCB_BEFORE   0x4711

typedef struct {
  UINT32    EaxIn, EcxIn;
  UINT64    Xcr0In, XssIn;
  UINT32    Eax, Ebx, Ecx, Edx;
  UINT64    Reserved;
} CPUID_ENTRY;

STATIC CONST CPUID_ENTRY  mCpuid[] = {
  { 0x80000000, 0, 0, 0, 0x80000023, 0x68747541, 0x444D4163, 0x69746E65 },
  { 0x8000001F, 1, 0, 0, 0x11111111, 0x22222222, 0x33333333, 0x44444444 },
  { 0x8000001F, 0, 0, 0, 0x0101FD3F, 0x00004173, 0x000003EE, 0x00000006 },
};

typedef struct {
  UINT32    ExitCode;
  UINT8     Length;
  UINT8     Code[6];
  CHAR8     *Name;
} INSTRUCTION;

STATIC CONST INSTRUCTION  mOthers[] = {
  { 0x72,       1, { 0x90 },                   "nop, as cpuid"                },
  { 0x72,       2, { 0x31, 0xC0 },             "xor eax, eax, as cpuid"       },
  { 0x72,       2, { 0x0F, 0x31 },             "rdtsc, as cpuid"              },
  { 0x72,       2, { 0x0F, 0x32 },             "rdmsr, as cpuid"              },
  { 0x72,       3, { 0x0F, 0xA3, 0xC8 },       "bt eax, ecx, as cpuid"        },
  { 0x72,       5, { 0xA2 },                   "mov [0], al, as cpuid"        },
  { 0x72,       6, { 0x8A, 0xA2 },             "mov ah, [edx + 0], as cpuid"  },
  { 0x72,       6, { 0xA2, 0x0F },             "mov [0x0F], al, as cpuid"     },
  { 0x72,       3, { 0x90, 0x0F, 0xA2 },       "the one before cpuid"         },
  { 0x72,       2, { 0xF4, 0xF4 },             "hlt, as cpuid"                },
  { 0x6E,       2, { 0x0F, 0xA2 },             "cpuid, as rdtsc"              },
  { 0x7B,       2, { 0x0F, 0xA2 },             "cpuid, as in or out"          },
  { 0x7C,       2, { 0x0F, 0xA2 },             "cpuid, as rdmsr"              },
  { 0x81,       2, { 0x0F, 0xA2 },             "cpuid, as vmmcall"            },
  { 0x400,      2, { 0x0F, 0xA2 },             "cpuid, as access to memory"   },
  { 0x172,      2, { 0x0F, 0xA2 },             "cpuid, with a larger code"    },
  { 0x80000072, 2, { 0x0F, 0xA2 },             "cpuid, with a negative code"  },
  { 0,          2, { 0x0F, 0xA2 },             "cpuid, without a code"        },
};

enum { Returned = 1, Ended };

STATIC UINT8       *mFirmware;
STATIC UINT32      mHandler;
STATIC UINT64      mStatus, mGhcb;
STATIC UINTN       mExits, mSteps;
STATIC greg_t      mRegisters[NGREG];
STATIC sigjmp_buf  mDone;

STATIC VOID
Fail (CONST CHAR8 *Why, UINTN Where)
{
  printf ("%s: %llx\n", Why, Where);
  exit (1);
}

/**
  The host's answer to a request in the GHCB's register: to one for CPUID, anything.
**/
STATIC VOID
VmgExit (VOID)
{
  mExits++;
  switch (mGhcb & 0xFFF) {
    case 0x004:
      mGhcb = 0x4141414100000000 | (mGhcb & 0xC0000000) | 0x005;
      break;
    case 0x100:
      siglongjmp (mDone, Ended);
    default:
      Fail ("the host is asked", mGhcb);
  }
}

/**
  Before each instruction: those that a program may not have are done here.
**/
STATIC VOID
OnStep (int Signal, siginfo_t *Info, VOID *Context)
{
  greg_t  *Registers;
  UINT8   *Code;
  UINT64  Value;

  Registers = ((ucontext_t *)Context)->uc_mcontext.gregs;
  for ( ; ; ) {
    Code = (UINT8 *)Registers[REG_RIP];
    if ((Signal != SIGTRAP) || (++mSteps > 10000) || (Registers[REG_RIP] < (UINTN)mFirmware)) {
      Fail ("the handler fails at", (UINTN)Code);
    }

    if ((Code[0] == 0x0F) && (Code[1] == 0x32)) {
      if (((UINT32)Registers[REG_RCX] != SEV_STATUS) && ((UINT32)Registers[REG_RCX] != GHCB)) {
        Fail ("a register is read", Registers[REG_RCX]);
      }

      Value               = ((UINT32)Registers[REG_RCX] == GHCB) ? mGhcb : mStatus;
      Registers[REG_RAX]  = (UINT32)Value;
      Registers[REG_RDX]  = (UINT32)(Value >> 32);
      Registers[REG_RIP] += 2;
    } else if ((Code[0] == 0x0F) && (Code[1] == 0x30)) {
      if ((UINT32)Registers[REG_RCX] != GHCB) {
        Fail ("a register is written to", Registers[REG_RCX]);
      }

      mGhcb               = ((UINT64)Registers[REG_RDX] << 32) | (UINT32)Registers[REG_RAX];
      Registers[REG_RIP] += 2;
    } else if (memcmp (Code, "\xF3\x0F\x01\xD9", 4) == 0) {
      VmgExit ();
      Registers[REG_RIP] += 4;
    } else if (Code[0] == 0xCF) {
      memcpy (mRegisters, Registers, sizeof (mRegisters));
      siglongjmp (mDone, Returned);
    } else if ((Code[0] == 0xF4) || ((Code[0] == 0x0F) && (Code[1] == 0xA2))) {
      Fail ("an instruction that has no place in the handler", (UINTN)Code);
    } else {
      return;
    }
  }
}

/**
  From the program into the handler, as the processor does it.
**/
STATIC VOID
OnStart (int Signal, siginfo_t *Info, VOID *Context)
{
  greg_t  *Registers;

  Registers                 = ((ucontext_t *)Context)->uc_mcontext.gregs;
  Registers[REG_RAX]        = mRegisters[REG_RAX];
  Registers[REG_RBX]        = mRegisters[REG_RBX];
  Registers[REG_RCX]        = mRegisters[REG_RCX];
  Registers[REG_RDX]        = mRegisters[REG_RDX];
  Registers[REG_RSP]        = mRegisters[REG_RSP];
  Registers[REG_RIP]        = mHandler;
  Registers[REG_CSGSFS]     = (Registers[REG_CSGSFS] & ~0xFFFFLL) | USER_CS_32;
  Registers[REG_EFL]        = 0x102;
  OnStep (SIGTRAP, Info, Context);
}

/**
  How it ends if the host injects #VC at an instruction.
**/
STATIC int
Inject (UINT32 ExitCode, UINT8 Length, CONST UINT8 *Code, UINT32 Function)
{
  UINT32  *Stack;
  int     How;

  memset ((VOID *)CODE, 0, SIZE_4KB);
  memcpy ((VOID *)CODE, Code, Length);
  memset ((VOID *)WORK_AREA, 0, SIZE_4KB);
  memset ((VOID *)(STACK_TOP - SIZE_4KB), 0x55, SIZE_4KB);
  Stack    = (UINT32 *)STACK_TOP - 4;
  Stack[0] = ExitCode;
  Stack[1] = CODE;
  Stack[2] = 0x10;
  Stack[3] = 0x246;

  mRegisters[REG_RAX] = Function;
  mRegisters[REG_RBX] = 0xBBBBBBBB;
  mRegisters[REG_RCX] = 0xCCCCCCCC;
  mRegisters[REG_RDX] = 0xDDDDDDDD;
  mRegisters[REG_RSP] = (UINTN)Stack;
  mGhcb               = GHCB_BEFORE;
  mExits              = 0;
  mSteps              = 0;
  How                 = sigsetjmp (mDone, 1);
  if (How == 0) {
    raise (SIGUSR1);
  }

  return How;
}

/**
  CPUID, as it is meant to be.
**/
STATIC VOID
Believed (UINT32 Function, UINTN Exits, UINT32 Eax, UINT32 Ebx, UINT32 Ecx, UINT32 Edx)
{
  UINT32  *Stack;

  Stack = (UINT32 *)STACK_TOP - 3;
  if ((Inject (0x72, 2, (CONST UINT8 *)"\x0F\xA2", Function) != Returned) || (*(UINT8 *)RECEIVED_VC != 1) ||
      (mRegisters[REG_RSP] != (UINTN)Stack) || (Stack[0] != CODE + 2) ||
      (Stack[1] != 0x10) || (Stack[2] != 0x246))
  {
    Fail ("CPUID is not handled", Function);
  }

  if ((mRegisters[REG_RAX] != Eax) || (mRegisters[REG_RBX] != Ebx) || (mRegisters[REG_RCX] != Ecx) ||
      (mRegisters[REG_RDX] != Edx) || (mExits != Exits) || (mGhcb != GHCB_BEFORE))
  {
    Fail ("CPUID is answered by another", Function);
  }
}

STATIC VOID *
Map (UINTN Address, UINTN Size)
{
  VOID  *Mapped;

  Mapped = mmap (
             (VOID *)Address,
             Size,
             PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
             -1,
             0
             );
  if (Mapped == MAP_FAILED) {
    perror ("mmap");
    exit (1);
  }

  return Mapped;
}

int
main (int Count, char **Arguments)
{
  // An empty gate of the IDT, of which 29 are before #VC's.
  STATIC CONST UINT8  Gate[8] = { 0, 0, 0x10, 0, 0, 0x8E, 0, 0 };
  struct sigaction    Start   = { .sa_sigaction = OnStart, .sa_flags = SA_SIGINFO | SA_ONSTACK };
  struct sigaction    Step    = { .sa_sigaction = OnStep, .sa_flags = SA_SIGINFO | SA_ONSTACK };
  stack_t             Signals = { .ss_size = SIZE_64KB };
  struct stat         Status;
  UINTN               Index, At, Gates;
  int                 File, Snp, Wrong;

  //
  // The firmware ends at 4 GiB.
  //
  File = open (Arguments[Count - 1], O_RDONLY);
  if ((File < 0) || (fstat (File, &Status) != 0)) {
    perror (Arguments[Count - 1]);
    return 1;
  }

  mFirmware = Map (SIZE_4GB - Status.st_size, Status.st_size);
  if ((read (File, mFirmware, Status.st_size) != Status.st_size) ||
      (mprotect (mFirmware, Status.st_size, PROT_READ | PROT_EXEC) != 0))
  {
    perror (Arguments[Count - 1]);
    return 1;
  }

  for (At = 0, Gates = 0; (Gates < 29) && (At + 8 < Status.st_size); At++) {
    for (Gates = 0; (At + 8 * Gates + 8 < Status.st_size) && (memcmp (mFirmware + At + 8 * Gates, Gate, 8) == 0); Gates++) {
    }
  }

  if (Gates != 29) {
    Fail ("no IDT", Gates);
  }

  At      += 8 * 29 - 1;
  mHandler = *(UINT16 *)(mFirmware + At) | (*(UINT16 *)(mFirmware + At + 6) << 16);

  Signals.ss_sp = malloc (Signals.ss_size);
  sigaltstack (&Signals, NULL);
  sigaction (SIGUSR1, &Start, NULL);
  sigaction (SIGTRAP, &Step, NULL);
  sigaction (SIGSEGV, &Step, NULL);
  sigaction (SIGILL, &Step, NULL);
  Map (CODE, SIZE_4KB);
  Map (WORK_AREA, SIZE_4KB);
  Map (STACK_TOP - SIZE_4KB, SIZE_4KB);
  Map (CPUID_TABLE, SIZE_4KB);
  *(UINT32 *)CPUID_TABLE = ARRAY_SIZE (mCpuid);
  memcpy ((VOID *)(CPUID_TABLE + 16), mCpuid, sizeof (mCpuid));
  // 64-bit programs have no segment for data.
  __asm__ __volatile__ ("mov %0, %%ds" :: "r" (USER_DS));

  //
  // With SEV-SNP, and with SEV-ES alone, where the host answers.
  //
  Wrong = 0;
  for (Snp = 0; Snp <= 1; Snp++) {
    mStatus = (Snp == 1) ? BIT0 | BIT1 | BIT2 : BIT0 | BIT1;
    if (Snp == 1) {
      Believed (0x80000000, 0, 0x80000023, 0x68747541, 0x444D4163, 0x69746E65);
      Believed (0x8000001F, 0, 0x0101FD3F, 0x00004173, 0x000003EE, 0x00000006);
      Believed (0x80000020, 0, 0, 0, 0, 0);
    } else {
      Believed (0x80000000, 4, 0x41414141, 0x41414141, 0x41414141, 0x41414141);
    }

    for (Index = 0; Index < ARRAY_SIZE (mOthers); Index++) {
      //
      // The one request to the host is to end the VM, since it was not CPUID.
      //
      if ((Inject (mOthers[Index].ExitCode, mOthers[Index].Length, mOthers[Index].Code, 0x8000001F) != Ended) ||
          (mExits != 1) || (mGhcb != 0x11100))
      {
        printf ("handled: %s\n", mOthers[Index].Name);
        Wrong = 1;
      }
    }
  }

  return Wrong;
}
