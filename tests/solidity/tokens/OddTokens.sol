// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// ERC-20s that do what some do. Each is the plain one but for its oddity.
contract PlainToken {
    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;
    uint256 public totalSupply;

    error InsufficientAllowance();
    error InsufficientBalance();

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
        totalSupply += amount;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function transfer(address to, uint256 amount) external virtual returns (bool) {
        _move(msg.sender, to, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external virtual returns (bool) {
        _spend(from, amount);
        _move(from, to, amount);
        return true;
    }

    function _spend(address from, uint256 amount) internal {
        require(allowance[from][msg.sender] >= amount, InsufficientAllowance());
        if (allowance[from][msg.sender] != type(uint256).max) allowance[from][msg.sender] -= amount;
    }

    function _move(address from, address to, uint256 amount) internal virtual {
        require(balanceOf[from] >= amount, InsufficientBalance());
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// Burns a thousandth of every transfer, from the moment it is told to (as USDT could).
contract FeeToken is PlainToken {
    bool public charging;

    function charge(bool on) external {
        charging = on;
    }

    function _move(address from, address to, uint256 amount) internal override {
        super._move(from, to, amount);
        if (charging) {
            balanceOf[to] -= amount / 1_000;
            totalSupply -= amount / 1_000;
        }
    }
}

/// Returns nothing from transfer and transferFrom (as USDT does).
contract SilentToken {
    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// Says false instead of reverting, from the moment it is told to.
contract FalseToken is PlainToken {
    bool public refusing;

    function refuse(bool on) external {
        refusing = on;
    }

    function transfer(address to, uint256 amount) external override returns (bool) {
        if (refusing) return false;
        _move(msg.sender, to, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external override returns (bool) {
        if (refusing) return false;
        _spend(from, amount);
        _move(from, to, amount);
        return true;
    }
}

/// Says true and moves nothing.
contract LyingToken is PlainToken {
    function transferFrom(address, address, uint256) external pure override returns (bool) {
        return true;
    }
}

/// Moves nothing from or to a listed account (as USDC and USDT do), and nothing at all while paused.
contract BlockingToken is PlainToken {
    mapping(address account => bool) public blocked;
    bool public paused;

    error Blocked(address account);
    error Paused();

    function setBlocked(address account, bool on) external {
        blocked[account] = on;
    }

    function setPaused(bool on) external {
        paused = on;
    }

    function _move(address from, address to, uint256 amount) internal override {
        require(!paused, Paused());
        require(!blocked[from], Blocked(from));
        require(!blocked[to], Blocked(to));
        super._move(from, to, amount);
    }
}

/// Its owner changes everybody's balance.
contract RebasingToken is PlainToken {
    function rebase(address account, uint256 balance) external {
        balanceOf[account] = balance;
    }
}

/// Calls sender and recipient around each transfer (as ERC-777 does).
contract CallbackToken is PlainToken {
    function _move(address from, address to, uint256 amount) internal override {
        _call(from, true);
        super._move(from, to, amount);
        _call(to, false);
    }

    function _call(address account, bool before) private {
        if (account.code.length == 0) return;
        try ITokenCallback(account).tokenMoves(before) {} catch {}
    }
}

interface ITokenCallback {
    function tokenMoves(bool before) external;
}

/// An account that answers the first callback of a transfer with calls, and notes which of them went through.
contract Reentrant is ITokenCallback {
    struct Call {
        address target;
        bytes data;
    }

    Call[] private _calls;
    bool[] public succeeded;
    bool private _busy;

    function plan(address target, bytes calldata data) external {
        _calls.push(Call(target, data));
    }

    function attempts() external view returns (uint256) {
        return succeeded.length;
    }

    function execute(address target, bytes calldata data) external {
        (bool success, bytes memory answer) = target.call(data);
        if (success) return;
        assembly ("memory-safe") {
            revert(add(answer, 32), mload(answer))
        }
    }

    function tokenMoves(bool) external {
        if (_busy) return;
        _busy = true;
        for (uint256 i; i < _calls.length; ++i) {
            (bool success,) = _calls[i].target.call(_calls[i].data);
            succeeded.push(success);
        }
        _busy = false;
    }
}
